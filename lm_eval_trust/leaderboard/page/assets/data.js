// The embedded data: JSON elements, and chunks of texts that are decoded when they are shown.

const json = (id) => JSON.parse(document.getElementById(id).textContent);

/** Bytes of base64; a plain loop is several times faster than a callback for each byte. */
function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** Samples come after the script in the file, so that the first screen does not wait for them. */
const loaded = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve);
  else resolve();
});

/** Decode a gzip-compressed JSON chunk. */
async function unpack(id) {
  await loaded;
  const bytes = bytesOf(document.getElementById(`c-${id}`).textContent);
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

/** The index of a set of samples: which items, their metrics, and where their texts are. */
class SampleSet {
  constructor(index) {
    Object.assign(this, index);
    this.packed = index.hashes;
    this.hashes = null;
    this.places = index.ids && new Map(index.ids.map((item, place) => [item, place]));
  }

  /** The item at a place; without ids, items count from 0. */
  item(place) {
    return this.ids ? this.ids[place] : place;
  }

  /** The place of an item; `undefined` if it is not there. */
  place(item) {
    if (this.places) return this.places.get(item);
    return Number.isInteger(item) && item >= 0 && item < this.size ? item : undefined;
  }

  /** A hash of each answer; decoded when a filter first needs it. */
  hash(place) {
    this.hashes ??= new Uint32Array(bytesOf(this.packed).buffer);
    return this.hashes[place];
  }
}

const keptSets = new Map();

function sampleSet(id) {
  if (!keptSets.has(id)) keptSets.set(id, new SampleSet(json(id)));
  return keptSets.get(id);
}

/** Let the browser draw and take input between two steps of long work. */
const breathe = () => new Promise((resolve) => setTimeout(resolve, 0));
