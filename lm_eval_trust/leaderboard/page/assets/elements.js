// Elements and numbers. Text only ever becomes text nodes, so nothing in the data can be markup.

/** Make an element; `on…` attributes are listeners, `true` is an empty attribute, `false` none. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

/** A label and its control, as one element. */
const labelled = (text, control) => el("label", { class: "field" }, el("span", {}, text), control);

function selectOf(options, chosen, onchange) {
  const made = options.map(([value, text]) =>
    el("option", { value, selected: value === chosen }, text),
  );
  return el("select", { onchange: (event) => onchange(event.target.value) }, made);
}

function checkbox(text, checked, onchange) {
  const box = el("input", {
    type: "checkbox",
    checked,
    onchange: (event) => onchange(event.target.checked),
  });
  return el("label", { class: "check" }, box, el("span", {}, text));
}

/** A disclosure: a summary that opens its content. */
const disclosure = (summary, attributes, ...children) =>
  el("details", attributes, el("summary", {}, summary), ...children);

const hidden = (text) => el("span", { class: "hidden" }, text);

const MINUS = "\u2212";
const DASH = "\u2013";

/** A number with three decimals, fewer if it is large; a dash if it is missing. */
function number(value) {
  if (value == null) return DASH;
  const size = Math.abs(value);
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return value.toFixed(digits).replace("-", MINUS);
}

const signed = (value) => (value == null ? DASH : (value > 0 ? "+" : "") + number(value));
const whole = (value) => value.toLocaleString("en");

function probability(value) {
  if (value == null) return DASH;
  return value < 0.001 ? "< 0.001" : value.toFixed(3);
}

/** A table of text: a caption, a header, and rows whose first cell names the row. */
function plainTable(caption, header, rows) {
  const cell = (value, index) =>
    index === 0
      ? el("th", { scope: "row" }, String(value))
      : el("td", {}, typeof value === "number" ? number(value) : (value ?? DASH));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      { class: "plain" },
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, header.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))),
    ),
  );
}
