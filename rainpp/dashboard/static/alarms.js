// Alarms with their evidence: firing ones first, the latest first.

import { element, fill, named, number, say, time } from "/static/element.js";

const SHOWN = 4;
// Alarms that are kept; of those that are over the oldest are forgotten.
const MOST = 1000;

export class Alarms {
  constructor(explain) {
    this.explain = explain;
    this.known = new Map();
    this.list = document.getElementById("alarm-list");
    this.more = document.getElementById("more-alarms");
    this.log = document.getElementById("announcements");
    this.open = false;
    this.more.addEventListener("click", () => {
      this.open = !this.open;
      this.draw();
    });
  }

  forget() {
    this.known.clear();
  }

  take(alarm, isNew) {
    const before = this.known.get(alarm.alarm);
    if (before && before.seq > alarm.seq) return;
    this.known.set(alarm.alarm, alarm);
    if (this.known.size > MOST) {
      const over = this.all.find((one) => one.status !== "firing");
      if (over) this.known.delete(over.alarm);
    }
    if (isNew && before?.status !== alarm.status) this.#announce(alarm);
  }

  #announce(alarm) {
    this.log.append(element("p", {}, `Alarm ${alarm.name} is ${alarm.status}: ${sentence(alarm)}`));
    while (this.log.children.length > 5) this.log.firstChild.remove();
  }

  get all() {
    return [...this.known.values()];
  }

  get firing() {
    return this.all.filter((alarm) => alarm.status === "firing");
  }

  draw() {
    const order = this.all.sort(
      (a, b) => (b.status === "firing") - (a.status === "firing") || when(b) - when(a),
    );
    document.getElementById("no-alarms").hidden = order.length > 0;
    const most = Math.max(SHOWN, Math.min(this.firing.length, 3 * SHOWN));
    const shown = this.open ? order : order.slice(0, most);
    // Elements stay where nothing changed, so that a focused button stays focused.
    const there = new Map([...this.list.children].map((item) => [item.dataset.key, item]));
    const wanted = shown.map((alarm) => {
      const key = `${alarm.alarm} ${alarm.seq}`;
      return there.get(key) ?? this.#item(alarm, key);
    });
    const same =
      wanted.length === this.list.children.length &&
      wanted.every((item, at) => item === this.list.children[at]);
    if (!same) fill(this.list, ...wanted);
    this.more.hidden = order.length <= most;
    say(this.more, this.open ? "Show fewer" : `Show all ${order.length}`);
  }

  #item(alarm, key) {
    const firing = alarm.status === "firing";
    const facts = [
      ["because", alarm.because],
      ["target", alarm.name === "drift" ? null : number(alarm.target)],
      ["window", time(alarm.window[0]) && `${time(alarm.window[0])} UTC`],
      ["since", time(alarm.since) && `${time(alarm.since)} UTC`],
      ["rows", number(alarm.rows)],
      ["model", alarm.model.slice(0, 12)],
      ["query", alarm.monitor],
    ];
    const evidence = element("dl", {}, ...facts.filter(([, value]) => value).flatMap(
      ([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    const item = element(
      "li",
      { class: firing ? "alarm firing" : "alarm", "data-key": key },
      element("div", { class: "badges" },
        element("span", { class: firing ? "badge bad" : "badge good" }, alarm.status),
        element("strong", {}, alarm.name)),
      element("p", {}, sentence(alarm)),
      firing ? evidence : element("details", {}, element("summary", {}, "evidence"), evidence),
    );
    if (alarm.traceable && firing) {
      item.append(element("button", { type: "button", class: "plain",
        onclick: () => this.explain(alarm) }, "Training rows behind it"));
    }
    return item;
  }
}

function when(alarm) {
  return alarm.window[0] ?? alarm.seq;
}

function sentence(alarm) {
  const where = named(alarm.group);
  const when = alarm.status === "firing" ? "when it went off" : "when it was over";
  return `${alarm.column} was ${number(alarm.value)}${where ? ` where ${where}` : ""} ${when}`;
}
