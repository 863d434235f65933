// Which samples are shown, and their texts. Filters read the small index; search reads chunks.

/** Samples of a row beside those of another row, which may be `null`. */
class SampleView {
  constructor(set, other, metric, higherIsBetter) {
    Object.assign(this, { set, other, way: higherIsBetter == null ? 0 : higherIsBetter ? 1 : -1 });
    this.metric = metric in set.metrics ? metric : null;
    this.size = set.size;
  }

  /** Where the other row has the same item; `undefined` if it has none. */
  partner(place) {
    return this.other?.place(this.set.item(place));
  }

  /** How much better the sample is than the other row's; 0 if unknown. */
  gain(place) {
    const there = this.partner(place);
    if (there === undefined || !this.metric) return 0;
    const [mine, theirs] = [this.set.metrics[this.metric][place], this.other.metrics[this.metric]?.[there]];
    return mine == null || theirs == null ? 0 : this.way * (mine - theirs);
  }

  changed(place) {
    const there = this.partner(place);
    return there !== undefined && this.set.hash(place) !== this.other.hash(there);
  }

  /** Whether a filter keeps a sample. */
  keeps(filter, place) {
    if (filter === "changed") return this.changed(place);
    if (filter === "worse") return this.gain(place) < 0;
    return filter === "better" ? this.gain(place) > 0 : true;
  }

  /** Places of the samples that a filter keeps. */
  keep(filter) {
    const kept = [];
    for (let place = 0; place < this.size; place++) if (this.keeps(filter, place)) kept.push(place);
    return kept;
  }

  /** Whether a sample passes a filter and has a phrase in its texts. */
  async passes(place, filter, phrase) {
    return this.keeps(filter, place) && (!phrase || hasPhrase(await this.text(place), phrase.toLowerCase()));
  }

  /** A sample with its texts: `{place, prompt, target, answer, read, other}`. */
  async text(place) {
    const [prompt, target] = await entry(this.set, "prompts", place);
    const [answer, read] = await entry(this.set, "answers", place);
    const there = this.partner(place);
    const other = there === undefined ? null : await entry(this.other, "answers", there);
    return { place, prompt, target, answer, read, other };
  }

  /** Yield places of texts with a phrase, some at a time, and how many texts were read. */
  async *search(phrase, places) {
    const wanted = phrase.toLowerCase();
    let [found, rested] = [[], performance.now()];
    for (const [read, place] of places.entries()) {
      if (hasPhrase(await this.text(place), wanted)) found.push(place);
      if (performance.now() - rested < 30) continue;
      yield { found, read: read + 1 };
      [found, rested] = [[], performance.now()];
    }
    yield { found, read: places.length };
  }
}

const hasPhrase = ({ prompt, answer, other }, wanted) =>
  [prompt, answer, ...(other ?? [])].some((text) => text.toLowerCase().includes(wanted));

/** One entry of a set's chunked texts. */
async function entry(set, kind, place) {
  const values = await chunk(set[kind][Math.floor(place / set.chunk)]);
  return values[place % set.chunk];
}
