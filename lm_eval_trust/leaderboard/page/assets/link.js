// Links to samples: the part of the address behind “#”, which stays on this machine.

/** The fields of the page's address; `null` if it leads to no score. */
function readLink() {
  const fields = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  return fields.row && fields.score ? fields : null;
}

/** The address of samples; fields without a value are left out. */
function addressOf(fields) {
  const kept = Object.entries(fields).filter(([, value]) => value !== "" && value != null);
  return `${location.href.split("#")[0]}#${new URLSearchParams(kept)}`;
}

/** Put an address, or none, where a reload finds it; the history gets no entry. */
const keepAddress = (address) => history.replaceState(null, "", address ?? location.href.split("#")[0]);

/** The board, row and column of a link; what is not on this page is `undefined`. */
function placeOf(boards, link) {
  const named = boards[Number(link.board ?? 1) - 1];
  const board = [named, ...boards].find((each) => each?.byName.has(link.row)) ?? named;
  return {
    board,
    row: board?.byName.get(link.row),
    column: board?.columns.find((column) => column.key === link.score),
  };
}
