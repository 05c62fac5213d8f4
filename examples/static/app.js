// Searches extensions, watches an iModel's changesets stream in, and then those that are pushed. What
// the platform says is shown as text, never as HTML; what is kept is bounded, however long the stream
// is.

const DEBOUNCE = 200; // milliseconds
const MOST_ROWS = 200; // of the feed
const MOST_CHIPS = 3; // of a row
const MOST_NAMED = 50; // of its tooltip
const FIRST_WAIT = 1000; // milliseconds before the page reconnects, doubled each time
const LONGEST_WAIT = 60_000;
const LOOK_BACK = 20; // changesets whose extended data may be stored late
const MOST_BARS = 96; // then each stands for twice as many changesets

const here = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
const moment = new Intl.DateTimeFormat("en", {
  dateStyle: "medium",
  timeStyle: "short",
  hourCycle: "h23",
});

function bytes(size) {
  const [unit, divisor] = size < 1e6 ? ["kB", 1e3] : size < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  const digits = size / divisor < 10 ? 1 : 0;
  return `${(size / divisor).toLocaleString("en", { maximumFractionDigits: digits })} ${unit}`;
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

// The backend: one JSON value, or a stream of lines.

class Refused extends Error {}

function words({ detail, request_id: id } = {}) {
  const text = typeof detail === "string" ? detail : "The backend could not answer.";
  return id ? `${text} (request ${id})` : text;
}

async function ask(path, signal) {
  const answer = await fetch(path, { signal });
  if (answer.ok) return answer;
  let text = words(await answer.json().catch(() => undefined));
  const wait = answer.headers.get("Retry-After");
  if (wait) text += ` Try again in ${wait} seconds.`;
  throw new Refused(text);
}

const json = async (path, signal) => (await ask(path, signal)).json();

// The next piece is read only when all lines of this one were dealt with.
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) yield JSON.parse(part);
    }
  } finally {
    await reader.cancel().catch(() => {}); // one that failed is over already
  }
}

function explain(error) {
  const text = error instanceof Refused ? error.message : "The backend cannot be reached.";
  if (!(error instanceof Refused)) console.warn(error);
  here("problem").textContent = text;
  here("problem").hidden = false;
}

let searching = new AbortController();
let debounce;

function highlighted(name, letters) {
  const shown = element("strong");
  const at = letters ? name.toLowerCase().indexOf(letters.toLowerCase()) : -1;
  if (at < 0) {
    shown.textContent = name;
  } else {
    const end = at + letters.length;
    shown.append(name.slice(0, at), element("mark", "", name.slice(at, end)), name.slice(end));
  }
  return shown;
}

async function search(letters) {
  searching = new AbortController();
  const { signal } = searching;
  const limit = 50;
  try {
    const query = new URLSearchParams({ search: letters, limit });
    const found = await json(`api/extensions?${query}`, signal);
    const rows = found.map(({ name, description }) => {
      const row = element("li");
      row.append(highlighted(name, letters));
      if (description) row.append(element("span", "quiet", description));
      return row;
    });
    here("extensions").replaceChildren(...rows);
    here("found").textContent =
      found.length === limit ? `The first ${limit}` : `${found.length} found`;
  } catch (error) {
    if (signal.aborted) return;
    here("extensions").replaceChildren();
    here("found").textContent = error instanceof Refused ? error.message : "No answer";
  }
}

here("search").addEventListener("input", ({ target }) => {
  searching.abort(); // an answer that is still to come is not wanted any more
  clearTimeout(debounce);
  debounce = setTimeout(() => search(target.value.trim()), DEBOUNCE);
});

function fill(select, items, none) {
  const options = items.map(({ id, name }) => new Option(name, id));
  select.replaceChildren(...(options.length ? options : [new Option(none, "")]));
  select.disabled = !options.length;
}

async function chooseITwin() {
  const itwin = here("itwin").value;
  const found = itwin ? await json(`api/itwins/${encodeURIComponent(itwin)}/imodels`) : [];
  if (itwin !== here("itwin").value) return; // another was chosen meanwhile
  fill(here("imodel"), found, "No iModels");
  here("watch").disabled = !found.length;
}

here("itwin").addEventListener("change", () => chooseITwin().catch(explain));

// The chart: bars by index, so that it does not matter what arrives first.

class Chart {
  constructor(place) {
    this.place = place;
    this.span = 1; // changesets a bar stands for
    this.bars = [];
    this.last = 0; // index of the last, where the first is 1
    this.draw();
  }

  add(index, size, files) {
    if (index < 1) return;
    this.last = Math.max(this.last, index);
    while (index > MOST_BARS * this.span) this.fold();
    const at = Math.floor((index - 1) / this.span);
    while (this.bars.length <= at) this.append();
    const bar = this.bars[at];
    bar.size += size;
    bar.files += files;
    this.show(bar);
  }

  append() {
    const bar = { size: 0, files: 0, shown: element("div", "bar") };
    bar.shown.append(element("i", "size"), element("i", "files"));
    this.bars.push(bar);
    this.place.append(bar.shown);
    // Never fewer than there are after folding, so that a long list fills the width.
    this.place.style.setProperty("--slots", Math.max(this.bars.length, MOST_BARS / 2));
  }

  // The heights are left to the style sheet: only what changed is touched here.
  show(bar) {
    bar.shown.style.setProperty("--size", bar.size);
    bar.shown.style.setProperty("--files", bar.files);
    bar.shown.title = `${bytes(bar.size)}, ${count.format(bar.files)} files`;
    if (bar.size > this.most.size || bar.files > this.most.files) {
      this.most.size = Math.max(this.most.size, bar.size);
      this.most.files = Math.max(this.most.files, bar.files);
      this.place.style.setProperty("--most-size", this.most.size);
      this.place.style.setProperty("--most-files", this.most.files);
    }
  }

  fold() {
    const before = this.bars;
    this.span *= 2;
    this.draw();
    before.forEach(({ size, files }, at) => {
      if (at % 2 === 0) this.append();
      const bar = this.bars.at(-1);
      bar.size += size;
      bar.files += files;
    });
    this.bars.forEach((bar) => this.show(bar));
  }

  draw() {
    this.bars = [];
    this.most = { size: 1, files: 1 };
    this.place.replaceChildren();
  }
}

// The feed: the latest changesets, newest first.

class Feed {
  constructor(place) {
    this.place = place;
    this.rows = new Map(); // by index, in the order of the feed from its end
    place.replaceChildren();
  }

  row(index) {
    const known = this.rows.get(index);
    if (known) return known;
    const shown = element("li");
    const row = {
      index,
      shown,
      title: element("span", "title"),
      about: element("span", "quiet"),
      files: element("span", "chips"),
      kinds: new Set(), // of the lines that were shown in it
    };
    shown.append(element("b", "index", `#${index}`), row.title, row.about, row.files);
    const after = [...this.place.children].find((each) => Number(each.dataset.index) < index);
    shown.dataset.index = index;
    this.place.insertBefore(shown, after ?? null);
    this.rows.set(index, row);
    if (this.rows.size > MOST_ROWS) {
      const oldest = this.place.lastElementChild;
      this.rows.delete(Number(oldest.dataset.index));
      oldest.remove();
    }
    return row;
  }

  // Whether a line was shown, or is of a changeset that fell out of the feed.
  knows({ kind, index }) {
    const row = this.rows.get(index);
    if (row) return row.kinds.has(kind);
    return this.rows.size === MOST_ROWS && index < Number(this.place.lastElementChild.dataset.index);
  }

  // The index behind which lines may still come: those of the last changesets without files too.
  end(last) {
    let end = last;
    while (end > Math.max(0, last - LOOK_BACK) && !this.rows.get(end)?.kinds.has("files")) end -= 1;
    return end;
  }

  changeset({ kind, index, description, pushed, size }) {
    const row = this.row(index);
    row.kinds.add(kind);
    row.title.textContent = description ?? "No description";
    row.title.classList.toggle("quiet", !description);
    const when = pushed && moment.format(new Date(pushed));
    const facts = [size === undefined ? "" : bytes(size), when];
    row.about.textContent = facts.filter(Boolean).join(" · ");
  }

  files({ kind, index, files = [], problem }) {
    const chips = files.slice(0, MOST_CHIPS).map((name) => element("span", "chip", name));
    const more = files.length - MOST_CHIPS;
    if (more > 0) chips.push(element("span", "chip more", `+${more}`));
    if (problem) chips.push(element("span", "chip bad", problem));
    const row = this.row(index);
    row.kinds.add(kind);
    const place = row.files;
    place.replaceChildren(...chips);
    place.title = files.slice(0, MOST_NAMED).join("\n");
  }
}

let running = null;
let live = null; // the connection for what is new
let reconnecting;

// `end` gives the index behind which lines may still come, anew for each connection.
function follow(imodel, end, show, wait = FIRST_WAIT) {
  live = new EventSource(`api/imodels/${encodeURIComponent(imodel)}/live?after=${end()}`);
  live.onopen = () => {
    wait = FIRST_WAIT;
    tell("New changesets appear here by themselves.");
  };
  live.onmessage = ({ data }) => show(JSON.parse(data));
  live.onerror = () => {
    live.close();
    tell("New changesets appear here when the backend can be reached again.");
    reconnecting = setTimeout(
      () => follow(imodel, end, show, Math.min(2 * wait, LONGEST_WAIT)), wait);
  };
}

function unfollow() {
  live?.close();
  clearTimeout(reconnecting);
  tell("");
}

function tell(text) {
  here("live").textContent = text;
  here("live").hidden = !text;
}

function say(state) {
  here("state").textContent = state;
  here("state").dataset.state = state;
}

async function watch(imodel) {
  running?.abort();
  unfollow();
  const control = new AbortController();
  running = control;
  const chart = new Chart(here("bars"));
  const feed = new Feed(here("feed"));
  const total = { changesets: 0, files: 0, size: 0 };

  const show = (line) => {
    if (line.error) throw new Refused(words(line.error));
    if (line.kind === "pushed") {
      total.changesets += 1;
      total.size += line.size ?? 0;
      chart.add(line.index, line.size ?? 0, 0);
      feed.changeset(line);
    } else {
      total.files += line.files?.length ?? 0;
      chart.add(line.index, 0, line.files?.length ?? 0);
      feed.files(line);
    }
    here("changesets").textContent = count.format(total.changesets);
    here("files").textContent = count.format(total.files);
    here("size").textContent = bytes(total.size);
    here("from").textContent = "#1";
    here("to").textContent = `#${chart.last}`;
  };

  here("changesets").textContent = here("files").textContent = "0";
  here("size").textContent = bytes(0);
  here("from").textContent = here("to").textContent = "";
  here("problem").hidden = true;
  here("stop").disabled = false;
  say("Streaming");
  try {
    const answer = await ask(`api/imodels/${encodeURIComponent(imodel)}/changes`, control.signal);
    for await (const line of lines(answer.body)) {
      if (control.signal.aborted) break;
      show(line);
    }
    if (running === control) say(control.signal.aborted ? "Stopped" : "Complete");
    if (running === control && !control.signal.aborted) {
      const showNew = (line) => {
        if (feed.knows(line)) return;
        show(line);
        feed.row(line.index).shown.classList.add("new");
      };
      follow(imodel, () => feed.end(chart.last), showNew);
    }
  } catch (error) {
    if (running !== control) return; // another one is watched by now
    say(control.signal.aborted ? "Stopped" : "Failed");
    if (!control.signal.aborted) explain(error);
  } finally {
    if (running === control) {
      running = null;
      here("stop").disabled = true;
      here("bars").ariaLabel =
        `${count.format(total.changesets)} changesets of ${bytes(total.size)}, ` +
        `with ${count.format(total.files)} files changed`;
      health();
    }
  }
}

here("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  watch(here("imodel").value);
});
here("stop").addEventListener("click", () => running?.abort());

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    here("search").focus();
  }
});

async function health() {
  const facts = await json("health").catch(() => null);
  if (!facts) return;
  const shown = ["requests", "throttled", "retries", "in_use"].map((name) => {
    const fact = element("div");
    const label = name.replace("_", " ");
    fact.append(element("dt", "", label), element("dd", "", count.format(facts[name])));
    return fact;
  });
  here("health").replaceChildren(...shown);
}

setInterval(() => running && health(), 1000);

async function begin() {
  fill(here("itwin"), await json("api/itwins"), "No iTwins");
  await chooseITwin();
}

search("");
begin().catch(explain).finally(health);
