// One sample: its prompt, the answers of both rows, and a link to it.

const TAIL = 700;

function sampleCard(state, sample) {
  const { view, row, reference } = state;
  const gain = view.gain(sample.place);
  const tag = gain === 0 ? null : gain > 0 ? ["better", "\u25B2 better"] : ["worse", "\u25BC worse"];
  const there = view.partner(sample.place);
  const answers = [answerOf(row.name, sample.answer, sample.read, view.set, sample.place)];
  if (sample.other) answers.unshift(answerOf(reference, ...sample.other, view.other, there));
  else if (view.other) answers.unshift(el("div", { class: "answer" }, el("h4", {}, el("bdi", {}, reference)), el("p", {}, "Has no such item.")));
  const item = view.set.item(sample.place);
  const link = el("button", { type: "button", class: "plain link" }, "Copy link", hidden(` to item ${item}`));
  link.addEventListener("click", () => copyFrom(link, sampleAddress(state, { item })));
  return el(
    "li",
    { class: "sample", tabindex: "-1", "aria-current": item === state.item && "true" },
    el("div", { class: "sample-head" }, el("h3", {}, `Item ${item}`, tag && el("span", { class: `tag ${tag[0]}` }, tag[1])), link),
    promptOf(sample.prompt),
    sample.target && sample.target !== sample.prompt && el("p", { class: "target" }, el("b", {}, "Expected "), el("bdi", {}, sample.target)),
    el("div", { class: "answers" }, answers),
  );
}

/** The end of a prompt, which holds the item; all of it on demand. */
function promptOf(prompt) {
  const text = el("pre", { class: "prompt", dir: "auto" }, prompt.length > TAIL ? `\u2026${prompt.slice(-TAIL)}` : prompt);
  if (prompt.length <= TAIL) return text;
  const button = el("button", { type: "button", class: "plain", "aria-expanded": "false" }, "Whole prompt");
  button.addEventListener("click", () => {
    text.textContent = prompt;
    button.remove();
    text.tabIndex = -1;
    text.focus();
  });
  return el("div", {}, text, button);
}

function answerOf(name, answer, read, set, place) {
  const verdicts = Object.entries(set.metrics).filter(([, values]) => values[place] != null);
  return el(
    "div",
    { class: "answer" },
    el("h4", {}, el("bdi", {}, name)),
    el("pre", { dir: "auto" }, answer || el("i", {}, "(empty)")),
    read && el("p", { class: "read" }, el("b", {}, "Read as "), el("bdi", {}, read)),
    el(
      "dl",
      { class: "verdicts" },
      verdicts.map(([metric, values]) =>
        el("div", {}, el("dt", {}, metric.replaceAll("_", " ")), el("dd", {}, short(values[place]))),
      ),
    ),
  );
}

const short = (value) => (Number.isInteger(value) ? String(value) : number(value));
