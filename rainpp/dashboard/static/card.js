// One standing query: how it is, its charts, the same numbers as a table, and complaints.

import { Chart } from "/static/chart.js";
import { Complaint } from "/static/complaint.js";
import { ago, clock, element, fill, number, say, time } from "/static/element.js";
import { Series } from "/static/series.js";

const LINES = 200;

export class Card {
  constructor(name) {
    this.name = name;
    this.series = new Series();
    this.charts = new Map();
    this.raised = [];
    this.complaint = new Complaint(name);
    this.status = null;
    this.badges = element("div", { class: "badges" });
    this.sql = element("pre", {});
    this.nothing = element("p", { class: "quiet" }, "No numbers yet.");
    this.plots = element("div", {});
    this.table = element("div", {});
    this.details = element("details", {}, element("summary", {}, "The numbers as a table"), this.table);
    this.details.addEventListener("toggle", () => this.draw());
    this.root = element(
      "article",
      { class: "card", "aria-labelledby": `query-${name}` },
      element("h2", { id: `query-${name}` }, name),
      this.badges,
      element("details", {}, element("summary", {}, "The query"), this.sql),
      this.nothing,
      this.plots,
      element("p", { class: "legend" },
        "Line: the number. Dashes and band: what the model expects, with 95 %. Hollow: provisional. ",
        "Full: final. Square: corrected. Triangle: an alarm went off; hollow once it is over."),
      this.complaint.root,
      this.details,
    );
    this.dirty = true;
  }

  reset() {
    this.series = new Series();
    for (const chart of this.charts.values()) chart.root.remove();
    this.charts.clear();
    this.raised = [];
  }

  take(change) {
    this.series.take(change);
    this.latest = Math.max(this.latest ?? -1, change.seq);
    this.dirty = true;
  }

  alarms(known) {
    this.raised = known.filter((alarm) => alarm.monitor === this.name);
    this.dirty = true;
  }

  tell(status, offset) {
    this.status = status;
    this.offset = offset;
    say(this.sql, status.sql ?? "");
    this.beat();
  }

  // How it is now; said again every second, as time passes without an event.
  beat() {
    const status = this.status;
    if (!status) return;
    const now = Date.now() + this.offset;
    const found = [];
    if (status.problem) found.push(["bad", status.problem]);
    else if (status.seen === null) found.push(["warn", "no batch since this server began"]);
    else {
      const silent = (now - status.seen) / 1000;
      if (silent > status.quiet_after) {
        const since = clock(status.seen) || time(status.seen);
        found.push(["bad", `stale: no batch for ${ago(silent)}, since ${since} UTC`]);
      } else found.push(["good", "live"]);
    }
    const models = this.#models();
    if (status.model && models.latest && models.latest !== status.model) {
      found.push(["warn", "stale: the model was swapped, and no batch has come since"]);
    } else if (models.count > 1) {
      found.push(["warn", "the model was swapped: older windows are of the one before"]);
    }
    if (status.watermark) found.push(["", `complete until ${time(status.watermark)} UTC`]);
    if (status.window) found.push(["", status.window]);
    const text = JSON.stringify(found);
    if (text === this.badgeText) return;
    this.badgeText = text;
    fill(this.badges, ...found.map(([kind, words]) => element("span", { class: `badge ${kind}` }, words)));
  }

  #models() {
    let latest = null;
    const all = new Set();
    for (const column of this.series.columns.values()) {
      for (const group of column.groups.values()) {
        if (!latest || group.latest.seq > latest.seq) latest = group.latest;
        for (const change of group.points.values()) all.add(change.model);
      }
    }
    return { latest: latest?.model ?? null, count: all.size };
  }

  draw() {
    this.nothing.hidden = this.series.columns.size > 0;
    for (const column of this.series.columns.values()) {
      let chart = this.charts.get(column.name);
      if (!chart) {
        chart = new Chart(column, column.name, (cells, focus) => this.#chosen(chart, cells, focus));
        this.charts.set(column.name, chart);
        this.plots.append(chart.root);
      }
      // An alarm about something that is not drawn, such as a number of rows, stands everywhere.
      const names = this.series.columns;
      chart.mark(this.raised.filter((alarm) => alarm.column === column.name || !names.has(alarm.column)));
      chart.update();
    }
    // For whoever measures how long a change takes to be seen.
    this.root.dataset.drawn = String(this.latest ?? -1);
    this.complaint.refresh();
    if (this.details.open) this.#tableNow();
    this.beat();
    this.dirty = false;
  }

  #chosen(chart, cells, focus) {
    if (!cells.length) {
      this.complaint.root.hidden = true;
      return;
    }
    for (const other of this.charts.values()) if (other !== chart) other.clear();
    this.complaint.open(chart, () => chart.focus());
    if (focus) this.complaint.focus();
  }

  #tableNow() {
    const lines = [];
    for (const column of this.series.columns.values()) {
      for (const group of column.groups.values()) lines.push(...group.points.values());
    }
    lines.sort((a, b) => (b.window[0] ?? b.seq) - (a.window[0] ?? a.seq) || a.seq - b.seq);
    const groups = lines[0]?.group.map(([name]) => name) ?? [];
    const heads = ["window (UTC)", ...groups, "number", "value", "expected", "95 % from", "to", "rows", "status"];
    const row = (change) => [
      time(change.window[0]), ...change.group.map(([, value]) => value), change.column,
      number(change.value), number(change.relaxed), number(change.low), number(change.high),
      number(change.rows),
      change.revision ? `${change.status}, revision ${change.revision}` : change.status,
    ];
    fill(
      this.table,
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Numbers of ${this.name}` },
        element("table", {},
          element("caption", {}, `The latest ${Math.min(LINES, lines.length)} of ${lines.length} numbers`),
          element("thead", {}, element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)))),
          element("tbody", {}, ...lines.slice(0, LINES).map((change) =>
            element("tr", {}, ...row(change).map((text) => element("td", {}, text))))))),
    );
  }
}
