// The numbers of one monitor, by column, group and window; the latest of each.

const MOST = 240;

export class Column {
  constructor(name) {
    this.name = name;
    this.groups = new Map();
    this.slots = [];
    this.windowed = true;
    this.step = null; // from one window to the next; null where they have no common length
    this.length = null;
    this.least = Infinity; // from one window that is here to the next
    this.uneven = false;
    this.counts = true; // whole numbers of rows, as far as is known
  }

  take(change) {
    const slot = change.window[0] ?? change.seq;
    this.windowed = change.window[0] !== null;
    let group = this.groups.get(change.key);
    if (!group) {
      const label = change.group.map(([, value]) => value).join(" / ") || this.name;
      group = { key: change.key, label, points: new Map(), latest: change };
      this.groups.set(change.key, group);
    }
    if (change.status === "retracted") {
      group.points.delete(slot);
      return;
    }
    const known = group.points.get(slot);
    if (known && known.seq > change.seq) return;
    group.points.set(slot, change);
    const { value, rows } = change;
    if (value !== null && !(Number.isInteger(value) && value >= 0 && value <= rows)) {
      this.counts = false;
    }
    this.#measure(change.window);
    if ((group.latest.window[0] ?? 0) <= (change.window[0] ?? 0)) group.latest = change;
    this.#keep(slot);
  }

  // Windows that overlap begin more often than they are long; sessions have no common length.
  #measure([start, end]) {
    if (start === null || end === null || this.uneven) return;
    const length = end - start;
    this.length ??= length;
    this.uneven = length !== this.length;
    this.step = this.uneven ? null : Math.min(length, this.least);
  }

  #keep(slot) {
    const last = this.slots.length - 1;
    if (last < 0 || slot > this.slots[last]) {
      if (last >= 0) this.least = Math.min(this.least, slot - this.slots[last]);
      this.slots.push(slot);
    } else if (!this.slots.includes(slot)) {
      this.slots.push(slot);
      this.slots.sort((a, b) => a - b);
      const at = this.slots.indexOf(slot);
      const near = [slot - this.slots[at - 1], this.slots[at + 1] - slot].filter((d) => d > 0);
      this.least = Math.min(this.least, ...near);
    }
    while (this.slots.length > MOST) {
      const gone = this.slots.shift();
      for (const [key, group] of this.groups) {
        group.points.delete(gone);
        if (!group.points.size) this.groups.delete(key);
      }
    }
  }

  // Changes of some groups, in windows from one to another.
  within(keys, from, to) {
    const found = [];
    for (const key of keys) {
      for (const [slot, change] of this.groups.get(key)?.points ?? []) {
        if (slot >= from && slot <= to) found.push(change);
      }
    }
    return found.sort((a, b) => a.seq - b.seq);
  }
}

export class Series {
  constructor() {
    this.columns = new Map();
  }

  take(change) {
    let column = this.columns.get(change.column);
    if (!column) this.columns.set(change.column, (column = new Column(change.column)));
    column.take(change);
    return column;
  }
}
