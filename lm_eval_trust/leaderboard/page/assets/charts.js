// Charts, drawn by Plotly when they come into view, each with its numbers as a table.

// Okabe and Ito's colours, which the common kinds of colour blindness tell apart; two of them are
// too close to one of the backgrounds.
const COLOURS = {
  light: ["#0072B2", "#D55E00", "#009E73", "#B0578D", "#8A6100", "#2C7FA8", "#000000"],
  dark: ["#56B4E9", "#E69F00", "#2FC79C", "#E39CC3", "#F0E442", "#F08A4B", "#FFFFFF"],
};
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid"];
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "cross", "x", "star"];
const FIGURES = new Set();

/** Plotly as a promise; its text is decoded and run when the first chart needs it. */
let plotlyPromise = null;
function plotly() {
  plotlyPromise ??= unpack("plotly").then((text) => {
    document.head.append(el("script", {}, text));
    return window.Plotly;
  });
  return plotlyPromise;
}

/** Escape a name: Plotly interprets some markup in texts. */
const literal = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function theme() {
  // A property that depends on the scheme has its value only where it is used.
  const probe = document.body.appendChild(el("span", { hidden: true }));
  const [ink, muted, rule] = ["--ink", "--muted", "--rule"].map((name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return { ink, muted, rule, colours: COLOURS[isDark() ? "dark" : "light"], font: getComputedStyle(document.body).fontFamily };
}

/** How a series looks: colour, dash and symbol differ, so that each is enough by itself. */
function look(index, { colours }) {
  const at = index % colours.length;
  return {
    line: { color: colours[at], dash: DASHES[at], width: 2 },
    marker: { color: colours[at], symbol: SYMBOLS[(at + Math.floor(index / colours.length)) % SYMBOLS.length], size: 7 },
  };
}

function axis(look, options = {}) {
  const { title, ...rest } = options;
  return {
    gridcolor: look.rule,
    linecolor: look.rule,
    zeroline: false,
    automargin: true,
    title: { text: literal(title ?? ""), standoff: 8 },
    ...rest,
  };
}

/**
 * A figure that draws itself when it is seen and when the colours change.
 * `draw(theme)` returns `{traces, layout, height, header, rows}`.
 */
function chart(title, caption, draw) {
  const box = el("div", { class: "plot", role: "img", "aria-label": title });
  const numbers = disclosure("The numbers", { class: "numbers" });
  const figure = el("figure", {}, el("h3", {}, title), box, el("figcaption", {}, caption), numbers);
  const made = { seen: false, refresh };
  numbers.addEventListener("toggle", fill);
  function fill() {
    if (!numbers.open) return;
    const { header, rows } = draw(theme());
    numbers.replaceChildren(numbers.firstElementChild, plainTable(title, header, rows));
  }
  async function refresh() {
    if (!made.seen) return;
    const colours = theme();
    const { traces, layout, height } = draw(colours);
    const shown = { ...baseLayout(colours, height), ...layout };
    await (await plotly()).react(box, traces, shown, { displayModeBar: false, responsive: true });
    fill();
  }
  whenSeen(figure, () => {
    made.seen = true;
    refresh();
  });
  FIGURES.add(made);
  return { figure, refresh };
}

const baseLayout = (look, height = 340) => ({
  height,
  autosize: true,
  margin: { l: 56, r: 16, t: 12, b: 48 },
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: look.font, size: 13, color: look.ink },
  legend: legend(-0.22),
  dragmode: false,
});

const legend = (y, yanchor = "top") => ({
  orientation: "h",
  traceorder: "normal",
  x: 0,
  y,
  yanchor,
  itemclick: false,
  itemdoubleclick: false,
});

/** Room for a legend of so many names, which stand under each other where the page is narrow. */
const legendRoom = (names) => 22 * (innerWidth < 640 ? names : Math.ceil(names / 2));

function whenSeen(element, act) {
  const watch = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      act();
    },
    { rootMargin: "200px" },
  );
  watch.observe(element);
}

schemeListeners.add(() => FIGURES.forEach((made) => made.refresh()));

/** The band between two series, as traces that the legend leaves out. */
function band(x, low, high, colour, axes) {
  const common = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, ...axes };
  return [
    { ...common, y: low },
    { ...common, y: high, fill: "tonexty", fillcolor: `${colour}26` },
  ];
}

// Figure 6: abilities of some rows, 0 to 1.
function abilities(board) {
  const bounded = (column) =>
    board.rows.every((row) => {
      const value = row.scores[column.key]?.value;
      return value == null || (value >= 0 && value <= 1);
    });
  const chosen = board.columns.filter((c) => c.dimension && c.dimension !== "suite" && c.headline && bounded(c));
  return chosen.map((column) => ({
    title: column.higher_is_better ? column.title : `1 ${MINUS} ${column.title}`,
    of: (row) => {
      const value = row.scores[column.key]?.value;
      return value == null ? null : column.higher_is_better ? value : 1 - value;
    },
  }));
}

function radar(board, chosen) {
  const axes = abilities(board);
  const rows = () => board.rows.filter((row) => chosen.has(row.name));
  return chart("Abilities", "Outward is better on every axis. Failure rates are drawn as 1 minus the rate.", (look_) => ({
    traces: rows().map((row, index) => ({
      type: "scatterpolar",
      name: literal(row.name),
      theta: [...axes, axes[0]].map((each) => literal(each.title)),
      r: [...axes, axes[0]].map((each) => each.of(row)),
      mode: "lines+markers",
      ...look(index, look_),
    })),
    layout: {
      margin: { l: 72, r: 72, t: 30, b: 30 },
      legend: legend(-0.12),
      polar: {
        bgcolor: "rgba(0,0,0,0)",
        radialaxis: { range: [0, 1], gridcolor: look_.rule, linecolor: look_.rule, tickfont: { size: 11, color: look_.muted }, angle: 90, tickangle: 90, nticks: 4 },
        angularaxis: { gridcolor: look_.rule, linecolor: look_.rule, rotation: 90, direction: "clockwise" },
      },
      showlegend: true,
    },
    height: (innerWidth < 640 ? 290 : 380) + legendRoom(chosen.size),
    header: ["Model", ...axes.map((each) => each.title)],
    rows: rows().map((row) => [row.name, ...axes.map((each) => each.of(row))]),
  }));
}

// Trust against general ability; a line joins the rows on the Pareto front.
function frontChart(board) {
  const rows = board.rows.filter((row) => row.trust && row.ability);
  const front = rows.filter((row) => board.front.includes(row.name)).sort((a, b) => a.ability.value - b.ability.value);
  const error = (row, key) => ({ type: "data", array: [row[key].stderr ?? 0], thickness: 1, width: 0 });
  const caption = "Bars are standard errors. The dotted line joins the rows that no other row beats in both.";
  return chart("Trust against general ability", caption, (colours) => ({
    traces: [
      {
        name: "front",
        x: front.map((row) => row.ability.value),
        y: front.map((row) => row.trust.value),
        mode: "lines",
        line: { color: colours.muted, dash: "dot", width: 1.5 },
        hoverinfo: "skip",
      },
      ...rows.map((row, index) => ({
        name: literal(row.name),
        x: [row.ability.value],
        y: [row.trust.value],
        error_x: error(row, "ability"),
        error_y: error(row, "trust"),
        mode: "markers",
        hoverinfo: "name+x+y",
        marker: { ...look(index, colours).marker, size: 10 },
      })),
    ],
    layout: {
      xaxis: axis(colours, { title: "general ability" }),
      yaxis: axis(colours, { title: "trust" }),
      showlegend: true,
    },
    height: 340 + legendRoom(rows.length + 1),
    header: ["Model", "General ability", "Trust", "Front"],
    rows: rows.map((row) => [row.name, row.ability.value, row.trust.value, front.includes(row) ? "yes" : "no"]),
  }));
}

/** Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten; none if there would be few. */
function logTicks(values) {
  const known = values.filter((value) => value > 0);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    ticks.push(...[1, 2, 5].map((step) => step * 10 ** power).filter((tick) => tick >= low / 2 && tick <= high * 2));
  }
  return high > 3 * low ? { tickvals: ticks, ticktext: ticks.map(String) } : {};
}

// Figure 4: a metric and perplexity against α.
function strength(sweep, state) {
  const curves = () => sweep.curves.filter((curve) => curve.metric === state.metric);
  return chart("Score and perplexity against \u03B1", "Top: the metric with its 95 % interval. Bottom: the perplexity of held-out text, on a logarithmic scale.", (colours) => ({
    traces: curves().flatMap((curve, index) => {
      const shown = look(index, colours);
      const common = { x: curve.alpha, mode: "lines+markers", name: literal(curve.name), ...shown };
      const few = curves().length < 4 && curve.low.every((value) => value != null);
      return [
        ...(few ? band(curve.alpha, curve.low, curve.high, shown.line.color, {}) : []),
        { ...common, y: curve.value },
        { ...common, y: curve.perplexity, yaxis: "y2", showlegend: false },
      ];
    }),
    layout: {
      xaxis: axis(colours, { title: "\u03B1", anchor: "y2" }),
      yaxis: axis(colours, { title: state.metric.replaceAll("_", " "), domain: [0.48, 1] }),
      yaxis2: axis(colours, { title: "perplexity", type: "log", domain: [0, 0.42], ...logTicks(curves().flatMap((c) => c.perplexity)) }),
      showlegend: true,
      legend: legend(-0.16),
    },
    height: 480 + legendRoom(curves().length),
    header: ["Steering", "\u03B1", state.metric, "low", "high", "perplexity"],
    rows: curves().flatMap((c) => c.alpha.map((alpha, i) => [c.name, alpha, c.value[i], c.low[i], c.high[i], c.perplexity[i]])),
  }));
}

/** An analysis' rows of one dimension and estimator. */
function measured(analysis, dimension, estimator) {
  const found = [];
  for (let i = 0; i < analysis.value.length; i++) {
    if (analysis.dimension[i] !== dimension || analysis.estimator[i] !== estimator) continue;
    const [checkpoint, step, layer] = [analysis.checkpoint[i], analysis.step[i], analysis.layer[i]];
    const [p, smallest, alone] = ["p_corrected", "p_smallest", "p_alone"].map((name) => analysis[name]?.[i] ?? null);
    found.push({ checkpoint, step, layer, value: analysis.value[i], low: analysis.low[i], high: analysis.high[i], p, smallest, alone });
  }
  return found.sort((a, b) => a.step - b.step);
}

const distinct = (values) => [...new Set(values)];

/** At most six layers, evenly spaced, the first and last among them. */
function someLayers(rows) {
  const all = distinct(rows.map((row) => row.layer)).sort((a, b) => a - b);
  if (all.length <= 6) return all;
  return distinct([0, 1, 2, 3, 4, 5].map((i) => all[Math.round((i * (all.length - 1)) / 5)]));
}

/** What the tests of a dimension can reach at best, as a sentence; empty if it is not known. */
function smallestP(analysis, dimension) {
  const rows = Object.keys(analysis.estimators).flatMap((key) => measured(analysis, dimension, key));
  const largest = (name) => Math.max(...rows.map((row) => row[name]).filter((value) => value != null));
  const [smallest, alone] = [largest("smallest"), largest("alone")];
  if (!Number.isFinite(smallest)) return "";
  const corrected = Number.isFinite(alone) ? `; a single finding has ${alone.toPrecision(2)} at best, corrected` : "";
  return ` The smallest p that can be reached is ${smallest.toPrecision(2)}${corrected}.`;
}

// Figures 2, 7–17: probes and dependence over checkpoints, a line for each layer.
function checkpointCurves(analysis, state) {
  const caption =
    "One line per block. Coloured bands are 95 % intervals of the probes. Grey bands reach from the mean to the 95 % quantile of the null at each point, uncorrected: one in twenty values lies above by chance. Large markers: p \u2264 .05, corrected for blocks, checkpoints and dimensions." +
    smallestP(analysis, state.dimension);
  return chart("Over checkpoints", caption, (colours) => {
    const panels = Object.entries(analysis.estimators)
      .map(([key, name]) => [name, measured(analysis, state.dimension, key)])
      .filter(([name, rows]) => rows.length && /accuracy|I\(T/.test(name));
    const height = 1 / panels.length;
    const layout = { xaxis: axis(colours, { title: "checkpoint", type: "category", anchor: panels.length > 1 ? `y${panels.length}` : "y" }) };
    const traces = panels.flatMap(([name, rows], panel) => {
      const axes = panel ? { yaxis: `y${panel + 1}` } : {};
      const top = 1 - panel * height;
      layout[`yaxis${panel ? panel + 1 : ""}`] = axis(colours, { title: name, domain: [top - height + 0.04, top] });
      return someLayers(rows).flatMap((layer, index) => {
        const line = rows.filter((row) => row.layer === layer);
        const shown = look(index, colours);
        const x = line.map((row) => row.checkpoint);
        const [low, high] = [line.map((row) => row.low), line.map((row) => row.high)];
        const banded = low.every((value) => value != null);
        const tested = name.startsWith("I(");
        const tone = tested ? colours.muted : shown.line.color;
        const marker = tested ? { ...shown.marker, size: line.map((row) => (row.p != null && row.p <= 0.05 ? 9 : 3)) } : shown.marker;
        return [
          ...(banded ? band(x, low, high, tone, axes) : []),
          { x, y: line.map((row) => row.value), name: `block ${layer}`, mode: "lines+markers", showlegend: panel === 0, ...axes, ...shown, marker },
        ];
      });
    });
    return {
      traces,
      layout: { ...layout, legend: legend(1.02, "bottom"), showlegend: true, margin: { l: 56, r: 16, t: 40, b: 60 } },
      height: 120 + 200 * panels.length,
      header: ["Checkpoint", "measure", "block", "value", "low", "high", "p, corrected"],
      rows: panels.flatMap(([name, rows]) => rows.map((r) => [r.checkpoint, name, String(r.layer), r.value, r.low, r.high, r.p])),
    };
  });
}

function checkpointHeat(analysis, state) {
  return chart("Blocks and checkpoints", "Lighter means higher.", (colours) => {
    const rows = measured(analysis, state.dimension, state.estimator);
    const x = distinct(rows.map((row) => row.checkpoint));
    const y = distinct(rows.map((row) => row.layer)).sort((a, b) => a - b);
    const value = new Map(rows.map((row) => [`${row.layer} ${row.checkpoint}`, row.value]));
    const z = y.map((layer) => x.map((checkpoint) => value.get(`${layer} ${checkpoint}`) ?? null));
    const name = analysis.estimators[state.estimator];
    return {
      traces: [{ type: "heatmap", x, y, z, colorscale: "Cividis", colorbar: { thickness: 12, outlinewidth: 0, title: { text: name, side: "right" } }, hoverinfo: "x+y+z" }],
      layout: { xaxis: axis(colours, { title: "checkpoint", type: "category" }), yaxis: axis(colours, { title: "block", dtick: Math.ceil(y.length / 12) }) },
      height: 380,
      header: ["Block", ...x],
      rows: y.map((layer, i) => [String(layer), ...z[i]]),
    };
  });
}
