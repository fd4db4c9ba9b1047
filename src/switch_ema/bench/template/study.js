"use strict";
// Draws the figures from the data the page carries; every number in it was computed before.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const DASHES = ["solid", "8,4", "2,3", "8,3,2,3", "12,4", "5,2"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"];
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;"); // Plotly reads names as HTML

  // What belongs to the theme: a trace only says which method it is of.
  function themed(trace) {
    const made = { ...trace, ...(trace.name === undefined ? {} : { name: plain(trace.name) }) };
    const i = trace.meta?.series;
    if (i === undefined) return made;
    const own = colour(`series-${i === 0 ? 0 : ((i - 1) % 7) + 1}`);
    if (trace.meta.band) return { ...made, line: { width: 0, color: own }, fillcolor: own, opacity: 0.13 };
    if (trace.type === "bar") return { ...made, marker: { color: own, ...trace.marker }, error_y: { ...trace.error_y, color: colour("muted") } };
    const line = { color: own, width: i ? 2 : 2.75, ...trace.line };
    if (!trace.type || trace.type === "scatter") line.dash ??= DASHES[i % DASHES.length];
    return { ...made, line, marker: { color: own, symbol: SYMBOLS[i % SYMBOLS.length], size: 7, ...trace.marker } };
  }

  function layout(given) {
    const axis = { gridcolor: colour("grid"), linecolor: colour("rule"), zeroline: false, ticks: "", automargin: true };
    const scene = { xaxis: axis, yaxis: axis, zaxis: axis };
    const axes = Object.fromEntries(
      Object.entries({ xaxis: {}, yaxis: {}, ...given }).filter(([key]) => /^[xy]axis\d*$/.test(key)).map(([key, value]) => [key, { ...axis, ...value }]),
    );
    return {
      margin: { l: 8, r: 8, t: 8, b: 8 }, hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("muted") },
      hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("rule"), font: { color: colour("ink") }, namelength: -1 },
      legend: { orientation: "h", y: -0.2, font: { color: colour("ink") } }, dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
      ...given, ...axes, ...(given.scene ? { dragmode: "turntable", scene: { ...scene, ...given.scene } } : {}),
    };
  }

  function drawAll() {
    data.plots.forEach((plot, i) => Plotly.react(`plot-${i}`, plot.traces.map(themed), layout(plot.layout), { displayModeBar: false, responsive: true }));
  }

  const printing = (on) => { document.documentElement.toggleAttribute("data-print", on); drawAll(); };
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
