// One column as lines over windows: values, what was expected with its interval, and a brush.

import uPlot from "/static/vendor/uPlot.esm.js";
import { clock, element, named, number, say, time } from "/static/element.js";

const SHOWN = 6;
const HEIGHT = 230;
// Pixels a pointer may move and still mean a point.
const STILL = 6;
const PER_WINDOW = 7;

const UTC = (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC");

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Chart {
  // chosen(changes): what the user brushed; called with nothing when it is let go.
  constructor(column, title, chosen) {
    this.column = column;
    this.chosen = chosen;
    this.shown = [];
    this.marks = new Map();
    this.cursor = null; // { slot, key }
    this.range = null; // { from, to, keys }
    this.plot = null;
    this.readout = element("p", { class: "readout", "aria-live": "polite" });
    this.chips = element("div", { class: "chips", role: "group", "aria-label": "Groups shown" });
    this.stage = element("div", {
      class: "plot",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "chart",
      "aria-label":
        `${title}. Left and right move by window, up and down by group, with shift a range; ` +
        "enter says that the number is wrong, escape lets go.",
    });
    this.stage.addEventListener("keydown", (event) => this.#key(event));
    this.root = element(
      "figure",
      { class: "figure" },
      element("figcaption", { class: "figure-head" }, element("h3", {}, title)),
      this.chips,
      this.stage,
      this.readout,
    );
    new ResizeObserver(() => this.#fit()).observe(this.stage);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#rebuild());
    this.#hint();
  }

  // Drawing.

  update() {
    this.#choose();
    this.#chipsNow();
    if (!this.plot || this.made !== this.shown.join("\n")) this.#rebuild();
    else {
      this.plot.setData(this.#data());
      this.#brushNow();
    }
  }

  // Alarms by the window and group they went off with; one that is firing is drawn over others.
  mark(raised) {
    this.marks = new Map();
    for (const alarm of raised) {
      const place = `${alarm.since} ${alarm.key}`;
      const there = this.marks.get(place) ?? [];
      this.marks.set(place, [...there, alarm]);
    }
  }

  // Which alarms went off with some numbers, and what should become of these: null if they differ.
  saysOf(cells) {
    const found = cells.flatMap((cell) => this.marks.get(`${cell.window[0]} ${cell.key}`) ?? []);
    // One that ended with the window it began with was about a number that has been corrected.
    const said = found.filter((alarm) => alarm.status === "firing" || alarm.window[0] > alarm.since);
    const ways = new Set(said.map((alarm) => alarm.should));
    return {
      names: [...new Set(said.map((alarm) => alarm.name))],
      should: ways.size === 1 ? [...ways][0] : null,
    };
  }

  #choose() {
    const known = this.column.groups;
    this.shown = this.shown.filter((key) => known.has(key));
    if (this.picked) return;
    for (const key of known.keys()) {
      if (this.shown.length < SHOWN && !this.shown.includes(key)) this.shown.push(key);
    }
  }

  #chipsNow() {
    const all = [...this.column.groups.values()];
    if (all.length < 2) {
      this.chips.hidden = true;
      return;
    }
    const text = all.map((group) => `${group.label}:${this.shown.indexOf(group.key)}`).join("\n");
    if (text === this.chipText) return;
    this.chipText = text;
    const listed = all.slice(0, 40);
    this.chips.replaceChildren(
      ...listed.map((group) => {
        const place = this.shown.indexOf(group.key);
        return element(
          "button",
          {
            type: "button",
            class: place < 0 ? "chip" : `chip mark-${place + 1}`,
            "aria-pressed": place >= 0 ? "true" : "false",
            onclick: () => this.#toggle(group.key),
          },
          group.label,
        );
      }),
    );
    if (all.length > listed.length) {
      this.chips.append(
        element("span", { class: "quiet" }, `and ${all.length - listed.length} more in the table`),
      );
    }
  }

  #toggle(key) {
    this.picked = true;
    const place = this.shown.indexOf(key);
    if (place >= 0) this.shown.splice(place, 1);
    else {
      this.shown.push(key);
      if (this.shown.length > SHOWN) this.shown.shift();
    }
    this.#rebuild();
    this.#chipsNow();
    const again = [...this.column.groups.keys()].indexOf(key);
    this.chips.children[again]?.focus();
  }

  #slots() {
    const most = Math.max(12, Math.floor((this.stage.clientWidth || 600) / PER_WINDOW));
    return this.column.slots.slice(-most);
  }

  #data() {
    // Where windows are missing a place without numbers ends the line.
    const slots = withGaps(this.#slots(), this.column.step);
    const scale = this.column.windowed ? 1e-3 : 1;
    const data = [slots.map((slot) => slot * scale)];
    const least = this.column.counts ? 0 : -Infinity;
    for (const key of this.shown) {
      const points = this.column.groups.get(key)?.points ?? new Map();
      for (const name of ["low", "high", "relaxed", "value"]) {
        data.push(slots.map((slot) => {
          const found = points.get(slot)?.[name] ?? null;
          return found === null ? null : Math.max(least, found);
        }));
      }
    }
    return data;
  }

  #rebuild() {
    this.plot?.destroy();
    this.made = this.shown.join("\n");
    const series = [{}];
    const bands = [];
    const gaps = this.column.windowed && this.column.groups.size < 50;
    this.shown.forEach((_, place) => {
      const colour = style(`--series-${place + 1}`);
      const at = series.length;
      const edge = { stroke: "transparent", points: { show: false }, spanGaps: !gaps };
      series.push({ ...edge }, { ...edge });
      series.push({
        stroke: colour, width: 1.5, dash: [5, 4], points: { show: false }, spanGaps: !gaps,
      });
      series.push({ stroke: colour, width: 2, points: { show: false }, spanGaps: !gaps });
      bands.push({ series: [at + 1, at], fill: `${colour}22` });
    });
    const axis = {
      stroke: style("--soft"),
      grid: { stroke: style("--grid"), width: 1 },
      ticks: { stroke: style("--grid"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    const options = {
      width: Math.max(200, this.stage.clientWidth || 600),
      height: HEIGHT,
      tzDate: UTC,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
      scales: { x: { time: this.column.windowed }, y: { range: (_, low, high) => margins(low, high) } },
      axes: [this.column.windowed ? { ...axis, values: clocks, space: 64 } : { ...axis }, { ...axis, size: 46 }],
      series,
      bands,
      // The brush stands in the scale that is drawn, which changes with every window that comes.
      hooks: { draw: [() => this.#points(), () => this.#brushNow()] },
    };
    this.plot = new uPlot(options, this.#data(), this.stage);
    this.#listen();
    this.#brushNow();
  }

  // Hollow: rows may still come. Full: final. Square: corrected. Triangle above: an alarm went off,
  // hollow once it is over.
  #points() {
    const { plot } = this;
    const ctx = plot.ctx;
    const slots = this.#slots();
    const ratio = uPlot.pxRatio;
    const size = 3.2 * ratio;
    ctx.save();
    this.shown.forEach((key, place) => {
      const group = this.column.groups.get(key);
      const colour = style(`--series-${place + 1}`);
      for (const slot of slots) {
        const change = group?.points.get(slot);
        if (!change || change.value === null) continue;
        const x = plot.valToPos(slot * (this.column.windowed ? 1e-3 : 1), "x", true);
        const y = plot.valToPos(change.value, "y", true);
        ctx.lineWidth = 1.6 * ratio;
        ctx.strokeStyle = colour;
        ctx.fillStyle = change.status === "provisional" ? style("--card") : colour;
        ctx.beginPath();
        if (change.status === "corrected") ctx.rect(x - size, y - size, 2 * size, 2 * size);
        else ctx.arc(x, y, size, 0, 2 * Math.PI);
        ctx.fill();
        ctx.stroke();
        const raised = this.marks.get(`${slot} ${key}`);
        if (raised) {
          const firing = raised.some((alarm) => alarm.status === "firing");
          triangle(ctx, x, y - 3.2 * size, 1.6 * size, firing);
        }
        if (this.#selected(slot, key)) ring(ctx, x, y, 2.2 * size, ratio);
      }
    });
    ctx.restore();
  }

  #selected(slot, key) {
    if (this.range) {
      return slot >= this.range.from && slot <= this.range.to && this.range.keys.includes(key);
    }
    return this.cursor?.slot === slot && this.cursor?.key === key;
  }

  #fit() {
    const width = this.stage.clientWidth;
    if (!this.plot || !width || width === this.plot.width) return;
    this.plot.setSize({ width, height: HEIGHT });
    this.plot.setData(this.#data());
    this.#brushNow();
  }

  // Choosing with mouse, pen or finger.

  #listen() {
    const over = this.plot.over;
    let began = null;
    over.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      began = { x: event.offsetX, y: event.offsetY };
      over.setPointerCapture(event.pointerId);
    });
    over.addEventListener("pointermove", (event) => {
      if (!began || Math.abs(event.offsetX - began.x) < STILL) return;
      this.#drag(began, { x: event.offsetX, y: event.offsetY });
    });
    over.addEventListener("pointerup", (event) => {
      if (!began) return;
      if (Math.abs(event.offsetX - began.x) < STILL) this.#point(event.offsetX, event.offsetY);
      else this.#drag(began, { x: event.offsetX, y: event.offsetY });
      began = null;
      this.#tell();
    });
    over.addEventListener("pointercancel", () => {
      began = null;
    });
    over.addEventListener("pointerleave", () => {
      if (!this.range && !this.cursor) this.#hint();
    });
  }

  #position(slot) {
    return this.plot.valToPos(slot * (this.column.windowed ? 1e-3 : 1), "x");
  }

  #nearest(x, y) {
    let best = null;
    for (const slot of this.#slots()) {
      const aside = Math.abs(this.#position(slot) - x);
      for (const key of this.shown) {
        const change = this.column.groups.get(key)?.points.get(slot);
        if (!change || change.value === null) continue;
        const away = aside * 4 + Math.abs(this.plot.valToPos(change.value, "y") - y);
        if (!best || away < best.away) best = { slot, key, away };
      }
    }
    return best;
  }

  #point(x, y) {
    const found = this.#nearest(x, y);
    if (!found) return;
    this.cursor = { slot: found.slot, key: found.key };
    this.range = null;
    this.#show();
  }

  // Of the groups the one with most points in the box, else the one nearest to its middle.
  #within(slots, began, ended) {
    const [top, bottom] = [began.y, ended.y].sort((a, b) => a - b);
    const middle = { x: (began.x + ended.x) / 2, y: (top + bottom) / 2 };
    let best = null;
    for (const key of this.shown) {
      const points = this.column.groups.get(key)?.points;
      let [count, away] = [0, Infinity];
      for (const slot of slots) {
        const value = points?.get(slot)?.value ?? null;
        if (value === null) continue;
        const y = this.plot.valToPos(value, "y");
        count += y >= top - STILL && y <= bottom + STILL;
        away = Math.min(away, Math.hypot(this.#position(slot) - middle.x, y - middle.y));
      }
      if (away === Infinity) continue;
      if (!best || count > best.count || (count === best.count && away < best.away)) {
        best = { key, count, away };
      }
    }
    return best;
  }

  #drag(began, ended) {
    const [left, right] = [began.x, ended.x].sort((a, b) => a - b);
    const inside = this.#slots().filter((slot) => {
      const at = this.#position(slot);
      return at >= left - 2 && at <= right + 2;
    });
    const near = this.#within(inside, began, ended);
    if (!near) return;
    this.cursor = { slot: inside.at(-1), key: near.key };
    this.range = { from: inside[0], to: inside.at(-1), keys: [near.key] };
    this.#show();
  }

  // Choosing with the keyboard.

  #key(event) {
    const slots = this.#slots();
    if (!slots.length || !this.shown.length) return;
    const at = this.cursor ?? { slot: slots.at(-1), key: this.shown[0] };
    let place = Math.max(0, slots.indexOf(at.slot));
    let group = Math.max(0, this.shown.indexOf(at.key));
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -slots.length, End: slots.length };
    if (event.key in steps) place += this.cursor ? steps[event.key] : 0;
    else if (event.key === "ArrowUp") group += this.cursor ? -1 : 0;
    else if (event.key === "ArrowDown") group += this.cursor ? 1 : 0;
    else if (event.key === "Escape") {
      this.clear();
      this.chosen([]);
      return;
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.cursor ??= at;
      this.#show();
      this.#tell(true);
      return;
    } else return;
    event.preventDefault();
    place = Math.min(slots.length - 1, Math.max(0, place));
    group = (group + this.shown.length) % this.shown.length;
    const key = this.shown[group];
    if (event.shiftKey && event.key in steps) {
      this.anchor ??= at.slot;
      const [from, to] = [this.anchor, slots[place]].sort((a, b) => a - b);
      this.range = { from, to, keys: [key] };
    } else {
      this.anchor = null;
      this.range = null;
    }
    this.cursor = { slot: slots[place], key };
    this.#show();
  }

  // What is chosen.

  select(keys) {
    const { from, to } = this.range ?? { from: this.cursor.slot, to: this.cursor.slot };
    this.range = { from, to, keys };
    this.#show();
  }

  cells() {
    if (this.range) return this.column.within(this.range.keys, this.range.from, this.range.to);
    if (!this.cursor) return [];
    return this.column.within([this.cursor.key], this.cursor.slot, this.cursor.slot);
  }

  clear() {
    this.cursor = this.range = this.anchor = null;
    this.#hint();
    this.plot?.redraw();
    this.#brushNow();
  }

  focus() {
    this.stage.focus();
  }

  #tell(focus = false) {
    this.chosen(this.cells(), focus);
  }

  #show() {
    this.plot.redraw();
    this.#brushNow();
    say(this.readout, describe(this.cells()));
  }

  #brushNow() {
    if (!this.range || !this.plot) {
      this.brush?.remove();
      return;
    }
    const left = Math.max(0, this.#position(this.range.from) - 4);
    const right = Math.min(this.plot.over.clientWidth, this.#position(this.range.to) + 4);
    if (right <= left) {
      this.brush?.remove(); // it has left the chart, as windows came
      return;
    }
    this.brush ??= element("div", { class: "brush" });
    this.brush.style.left = `${left}px`;
    this.brush.style.width = `${right - left}px`;
    if (this.brush.parentNode !== this.plot.over) this.plot.over.append(this.brush);
  }

  #hint() {
    say(this.readout, "Choose a point or drag over several to say that a number is wrong.");
  }
}

export function describe(cells) {
  if (!cells.length) return "Nothing is there.";
  const last = cells.at(-1);
  const where = named(last.group);
  if (cells.length === 1) {
    const when = last.window[0] === null ? "" : `${time(last.window[0])} UTC: `;
    const interval =
      last.low === null ? "" : ` (95 % from ${number(last.low)} to ${number(last.high)})`;
    return (
      `${where ? `${where}, ` : ""}${when}${last.column} is ${number(last.value)}, expected ` +
      `${number(last.relaxed)}${interval}, ${number(last.rows)} rows, ${last.status}`
    );
  }
  const starts = cells.map((cell) => cell.window[0]).filter((start) => start !== null);
  const keys = new Set(cells.map((cell) => cell.key));
  const sum = cells.reduce((total, cell) => total + (cell.value ?? 0), 0);
  const span = starts.length
    ? `, ${time(Math.min(...starts))} to ${clock(Math.max(...starts))} UTC`
    : "";
  const who = keys.size > 1 ? `${keys.size} groups` : where;
  return `${cells.length} numbers${who ? ` of ${who}` : ""}${span}: ${last.column} adds up to ${number(sum)}`;
}

// Clock times in UTC; the day under the first, and where it changes.
function clocks(_, splits) {
  let day = "";
  return splits.map((seconds, at) => {
    const text = time(seconds * 1e3);
    const [date, hour] = [text.slice(0, 10), text.slice(11)];
    const isNew = date !== day;
    day = date;
    const far = at > 0 && splits[at] - splits[at - 1] >= 86400;
    if (far) return date.slice(5);
    return isNew ? `${hour}\n${date}` : hour;
  });
}

function margins(low, high) {
  if (low === null || high === null) return [0, 1];
  const bottom = low >= 0 && low < 0.5 * high ? 0 : low;
  const room = (high - bottom || Math.abs(high) || 1) * 0.1;
  return [bottom === 0 ? 0 : bottom - room, high + room];
}

function triangle(ctx, x, y, size, full) {
  ctx.strokeStyle = style("--bad");
  ctx.fillStyle = full ? style("--bad") : style("--card");
  ctx.beginPath();
  ctx.moveTo(x - size, y - size);
  ctx.lineTo(x + size, y - size);
  ctx.lineTo(x, y + size * 0.7);
  ctx.closePath();
  ctx.fill();
  ctx.stroke();
}

// With a place between two windows that have more than one missing between them.
function withGaps(slots, step) {
  if (!step) return slots;
  return slots.flatMap((slot, at) =>
    at > 0 && slot - slots[at - 1] > 2.5 * step ? [slots[at - 1] + step, slot] : [slot],
  );
}

function ring(ctx, x, y, size, ratio) {
  ctx.strokeStyle = style("--ink");
  ctx.lineWidth = 2 * ratio;
  ctx.beginPath();
  ctx.arc(x, y, size, 0, 2 * Math.PI);
  ctx.stroke();
}
