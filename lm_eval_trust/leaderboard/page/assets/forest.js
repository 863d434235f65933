// A forest plot: a point and its intervals for each line, drawn in percent so that it fits any width.

const MARKERS = { better: "M0,-6 L6,5 L-6,5 Z", worse: "M0,6 L6,-5 L-6,-5 Z", open: "M-5,0 A5,5 0 1 0 5,0 A5,5 0 1 0 -5,0 Z" };

/** Round numbers that divide a range into about four. */
function ticksOf(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, index) => (first + index) * step);
}

/**
 * Draw groups of lines, `{title, lines}`, on one scale that includes 0. A line has a label, a mean
 * with an interval, where known a second and wider interval, its kind, and its numbers as text.
 */
function forest(groups) {
  const values = groups.flatMap(({ lines }) => lines.flatMap((line) => [line.mean, line.low, line.high, line.together?.low, line.together?.high]));
  const known = [0, ...values.filter((value) => value != null)];
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const at = (value) => `${(3 + (94 * (value - low)) / (high - low || 1)).toFixed(2)}%`;
  const rule = (x, kind) => svg("line", { class: kind, x1: at(x), x2: at(x), y1: 0, y2: "100%" });
  const span = (interval, kind) =>
    interval?.low != null && interval.high != null && svg("line", { class: kind, x1: at(interval.low), x2: at(interval.high), y1: "50%", y2: "50%" });
  const line = (each) =>
    el(
      "li",
      { class: each.kind },
      el("bdi", { class: "label" }, each.label),
      svg(
        "svg",
        { "aria-hidden": "true" },
        rule(0, "zero"),
        span(each.together, "together"),
        span(each, "alone"),
        svg("svg", { x: at(each.mean), y: "50%", overflow: "visible" }, svg("path", { class: "point", d: MARKERS[each.kind] })),
      ),
      el("span", { class: "figures-of" }, each.text),
    );
  const ticks = ticksOf(low, high || 1);
  const digits = Math.max(0, ...ticks.map((tick) => (String(Number(tick.toPrecision(6))).split(".")[1] ?? "").length));
  const axis = svg(
    "svg",
    { class: "axis" },
    ticks.map((tick) => [rule(tick, "tick"), svg("text", { x: at(tick), y: 16, "text-anchor": "middle" }, tick.toFixed(digits).replace("-", MINUS))]),
  );
  return el(
    "div",
    { class: "forest" },
    groups.map(({ title, lines }) => [title && el("p", { class: "group" }, title), el("ul", {}, lines.map(line))]),
    el("div", { class: "axis-line", "aria-hidden": "true" }, axis),
  );
}
