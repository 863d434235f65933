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

/** Make an SVG element. */
function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

/** A sentence of words and `{name}`s, whose own direction of writing ends with them. */
const sentence = (parts) => parts.map((part) => (typeof part === "string" ? unbroken(part) : el("bdi", { class: "name" }, part.name)));

/** Words in which no line ends inside an interval or a p. */
const unbroken = (words) =>
  words.split(/(\[[^\]]*\]|\(p [^)]*\))/).map((part, index) => (index % 2 ? el("span", { class: "unbroken" }, part) : part));

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

const between = (low, high, shown) => (low == null || high == null ? "no interval" : `[${shown(low)}, ${shown(high)}]`);

function probability(value) {
  if (value == null) return `p ${DASH}`;
  return value < 0.001 ? "p < 0.001" : `p = ${value.toFixed(3)}`;
}

/** Copy text; where the browser allows no copying, show it selected instead of the button. */
async function copyFrom(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = before), 2000);
  } catch {
    const field = el("input", { type: "text", readonly: true, value: text, "aria-label": before });
    button.replaceWith(field);
    field.select();
  }
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
