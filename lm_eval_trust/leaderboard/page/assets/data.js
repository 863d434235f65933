// The embedded data: JSON elements, and chunks of texts that are decoded when they are shown.

const json = (id) => JSON.parse(document.getElementById(id).textContent);

/** Decode a gzip-compressed JSON chunk. */
async function unpack(id) {
  const text = document.getElementById(`c-${id}`).textContent;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

const KEPT_CHUNKS = 64;
const keptChunks = new Map();

/** A chunk's values as a promise; the latest ones stay decoded. */
function chunk(id) {
  const found = keptChunks.get(id) ?? unpack(id);
  keptChunks.delete(id);
  keptChunks.set(id, found);
  if (keptChunks.size > KEPT_CHUNKS) keptChunks.delete(keptChunks.keys().next().value);
  return found;
}

const keptSets = new Map();

/** The index of a set of samples, with the place of each item. */
function sampleSet(id) {
  if (!keptSets.has(id)) {
    const index = json(id);
    index.places = new Map(index.ids.map((item, place) => [item, place]));
    keptSets.set(id, index);
  }
  return keptSets.get(id);
}

/** Let the browser draw and take input between two steps of long work. */
const breathe = () => new Promise((resolve) => setTimeout(resolve, 0));
