// Comparisons of two rows, and the best scores.

/** The comparison of a row with another in a column, as row minus other; `null` if there is none. */
function comparisonOf(board, row, other, column) {
  const found = board.byPair.get(pairKey(other, row, column));
  const turned = found ?? board.byPair.get(pairKey(row, other, column));
  if (!turned) return null;
  const { adjusted, test, items, family } = turned;
  const way = found ? (interval) => interval : opposite;
  // From the other side, what moved the right way moved the wrong way.
  const seen = ({ right, wrong, ...rest }) => ({ ...rest, right: found ? right : wrong, wrong: found ? wrong : right });
  const corrected = turned.corrected && way(turned.corrected);
  const together = way(turned.together);
  return { ...way(turned.difference), together, adjusted, test, items, family, corrected, effects: turned.effects.map(seen) };
}

const opposite = ({ mean, low, high }) => ({
  mean: -mean,
  low: high == null ? null : -high,
  high: low == null ? null : -low,
});

const pairKey = (first, second, column) => JSON.stringify([first, second, column]);

/** Give a board its number, counted from 1, and the lookups of its pairs and rows. */
function prepared(board, index) {
  board.number = index + 1;
  board.byPair = new Map(board.pairs.map((p) => [pairKey(p.first, p.second, p.column), p]));
  board.byName = new Map(board.rows.map((row) => [row.name, row]));
  return board;
}

/** 1 for the best measured score of a column, 2 for the next one; ties share a rank; none if all are equal. */
function places(board, column) {
  const scored = board.rows
    .filter((row) => !row.reported && row.scores[column.key])
    .map((row) => [row.name, row.scores[column.key].value]);
  const ordered = [...new Set(scored.map(([, value]) => goodness(column, value)))].sort((a, b) => b - a);
  return ordered.length < 2
    ? new Map()
    : new Map(scored.map(([name, value]) => [name, ordered.indexOf(goodness(column, value)) + 1]));
}

/** A value that is larger for better scores; in a column without a direction 0 is best. */
function goodness(column, value) {
  if (column.higher_is_better == null) return -Math.abs(value);
  return column.higher_is_better ? value : -value;
}

const KINDS = {
  1: { kind: "better", mark: "\u25B2", words: "better" },
  "-1": { kind: "worse", mark: "\u25BC", words: "worse" },
  0: { kind: "open", mark: "", words: "not shown" },
};

/** How a comparison came out, as `{kind, mark, words}`. */
const outcome = (comparison, column, confidence) => KINDS[verdict(comparison, column, confidence)];

/** 1 for an improvement, −1 for a loss, 0 if chance could explain the change or there is no direction. */
function verdict(comparison, column, confidence) {
  if (column.higher_is_better == null) return 0;
  if (!comparison || comparison.adjusted == null || comparison.adjusted > 1 - confidence) return 0;
  return Math.sign(comparison.mean) * (column.higher_is_better ? 1 : -1);
}
