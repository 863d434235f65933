// What stands behind a score, shown on demand next to its cell.

/** A row's score in a column as terms and what they say; empty ones are left out. */
function facts(board, row, column, reference) {
  const score = row.scores[column.key];
  const standing = board.standings[column.key]?.[row.name];
  const found = reference && reference !== row.name ? comparisonOf(board, row.name, reference, column.key) : null;
  const percent = Number((100 * board.confidence).toPrecision(6));
  const { kind, mark, words } = outcome(found, column, board.confidence);
  return [
    ["Score", `${number(score.value)}${score.stderr == null ? "" : ` \u00B1 ${number(score.stderr)} (standard error)`}`],
    ["95 % interval of the score", score.interval && (score.interval.low == null ? "none: one group of items" : between(score.interval.low, score.interval.high, number))],
    ["Items", score.items != null && `${whole(score.items)}${score.answered == null ? "" : `, ${whole(score.answered)}${score.seeds > 1 ? ` of ${whole(score.asked)}` : ""} answered`}`],
    ["Seeds", score.spread != null && `${score.seeds}, standard deviation between them ${number(score.spread)}`],
    ["Without the judge's errors", score.corrected && correctedLine(score.corrected, number)],
    ["Rank", standing && standingLine(standing)],
    ["Compared with", found && el("bdi", {}, reference)],
    ["Difference", found && [el("b", { class: kind }, `${mark} ${signed(found.mean)} `.trimStart()), `${words === "not shown" ? words : `shown ${words}`}, ${probability(found.adjusted)} after correction`]],
    [`${percent} % interval`, found && `${between(found.low, found.high, signed)} by itself, ${between(found.together.low, found.together.high, signed)} together with all tests`],
    ["Test", found && `${found.test}, ${whole(found.items)} shared items`],
    ["Difference without the judge's errors", found?.corrected && correctedLine(found.corrected, signed)],
    ["Items that moved", found?.effects.length > 0 && movedLine(found.effects[0])],
    ["By category", found?.effects.length > 1 && movedByCategory(found.effects.slice(1))],
  ].filter(([, said]) => said);
}

const factList = (entries) => el("dl", { class: "facts" }, entries.map(([term, said]) => el("div", {}, el("dt", {}, term), el("dd", {}, said))));

/** A value without the judge's errors, with its interval. */
const correctedLine = ({ mean, low, high }, shown) => `${shown(mean)} ${between(low, high, shown)}`;

const standingLine = ({ rank_low, rank_high, may_be_best, shrunk }) =>
  `${rank_low === rank_high ? rank_low : `${rank_low} to ${rank_high}`}` +
  `${may_be_best ? ", may be the best" : ""}; ${number(shrunk)} after shrinkage to the mean of the rows`;

const percentage = (value) => (value == null ? DASH : `${(100 * value).toFixed(1)}\u00A0%`);

const share = ({ mean, low, high }) => `${percentage(mean)} ${between(low, high, percentage)}`;

const movedLine = ({ wrong, right }) => `${share(wrong)} the wrong way, ${share(right)} the right way`;

function movedByCategory(effects) {
  const lines = effects.map((each) => el("li", {}, `${each.category} (${whole(each.items)}): ${movedLine(each)}`));
  return disclosure(`${effects.length} categories`, {}, el("ul", {}, lines));
}

/** Show a score's details next to its button; Escape, or a click elsewhere, closes them. */
function openCell(board, row, column, reference, button, actions) {
  const box = document.getElementById("cell");
  const leave = (act) => () => {
    box.hidePopover();
    button.focus();
    act();
  };
  const action = (text, act) => el("button", { type: "button", class: "plain", onclick: act }, text);
  const hasSamples = row.tasks[column.task]?.length > 0;
  box.replaceChildren(
    el("h3", { id: "cell-title" }, el("bdi", {}, row.name), ": ", el("bdi", {}, column.title)),
    factList(facts(board, row, column, reference)),
    !hasSamples && !row.reported ? el("p", { class: "remark" }, "The samples of this score were not saved (--log_samples).") : "",
    el(
      "div",
      { class: "actions" },
      hasSamples && action("Read the samples", leave(() => actions.open(row, column, reference))),
      action("About the row", leave(() => actions.showProvenance(row))),
      action("Close", leave(() => {})),
    ),
  );
  box.ontoggle = (event) => button.setAttribute("aria-expanded", String(event.newState === "open"));
  box.showPopover();
  placeBeside(box, button);
  box.querySelector("button").focus({ preventScroll: true });
}

/** Put a box below a button, or above it, within the window; narrow windows have it at their foot. */
function placeBeside(box, button) {
  const [anchor, own] = [button.getBoundingClientRect(), box.getBoundingClientRect()];
  const room = (at, size, space) => Math.max(8, Math.min(at, space - size - 8));
  const below = anchor.bottom + 4 + own.height <= innerHeight;
  box.style.setProperty("--left", `${room(anchor.left, own.width, innerWidth)}px`);
  box.style.setProperty("--top", `${room(below ? anchor.bottom + 4 : anchor.top - own.height - 4, own.height, innerHeight)}px`);
}
