"use strict";
// What every page of the bench shares: the data it carries, the looks of methods, the theme of its figures.
const bench = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;"); // Plotly reads names as HTML
  const DASHES = ["solid", "8,4", "2,3", "8,3,2,3", "12,4", "5,2"];
  const SYMBOLS = [
    ["circle", "M16 3.5a3.5 3.5 0 1 0 .01 0Z"],
    ["square", "M12.8 3.8h6.4v6.4h-6.4Z"],
    ["diamond", "M16 2.5l4.5 4.5l-4.5 4.5l-4.5-4.5Z"],
    ["triangle-up", "M16 2.8l4.2 7.4h-8.4Z"],
    ["triangle-down", "M16 11.2l4.2-7.4h-8.4Z"],
    ["cross", "M14.6 2.8h2.8v2.8h2.8v2.8h-2.8v2.8h-2.8v-2.8h-2.8v-2.8h2.8Z"],
  ];

  // Method 0 is the baseline. Colours, dashes and symbols repeat at different paces, so no two of 42 methods look alike.
  const style = (i) => ({
    name: `series-${i === 0 ? 0 : ((i - 1) % 7) + 1}`, dash: DASHES[i % DASHES.length], symbol: SYMBOLS[i % SYMBOLS.length], width: i ? 2 : 2.75,
  });

  function element(name, text, attributes = {}) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function drawing(...paths) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    made.setAttribute("viewBox", "0 0 32 14");
    made.setAttribute("aria-hidden", "true");
    for (const attributes of paths) {
      const path = made.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
      for (const [key, value] of Object.entries(attributes)) path.setAttribute(key, value);
    }
    return made;
  }

  const swatch = ({ name, dash, symbol }) => drawing(
    { d: "M0 7H32", "stroke-width": 2, stroke: `var(--${name})`, "stroke-dasharray": dash === "solid" ? "none" : dash },
    { d: symbol[1], fill: `var(--${name})` });

  // A line of a legend: a box that hides and shows, a swatch, a name that may break between its options.
  function entry(name, picture, toggle) {
    const line = element("label"), text = element("span");
    if (toggle) {
      const box = line.appendChild(element("input", undefined, { type: "checkbox" }));
      box.checked = true;
      box.addEventListener("change", () => toggle(box.checked));
    }
    name.split(/(?<=[:,])/).forEach((part) => text.append(part, element("wbr")));
    line.append(picture, text);
    return line;
  }

  const axis = () => ({
    gridcolor: colour("grid"), linecolor: colour("rule"), zeroline: false, ticks: "", automargin: true, title: { standoff: 8, font: { size: 13 } },
  });

  const layout = () => ({
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("muted") },
    hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("rule"), font: { color: colour("ink") }, namelength: -1 },
  });

  // Plotly takes seconds to start, so the page is there to be read before.
  const plotly = new Promise((ready) => {
    addEventListener("load", () => setTimeout(() => {
      const source = new Blob([document.getElementById("plotly").textContent], { type: "text/javascript" });
      const script = element("script", undefined, { src: URL.createObjectURL(source) });
      script.addEventListener("load", ready);
      document.head.append(script);
    }));
  });
  const draw = (id, traces, shape) => plotly.then(() => Plotly.react(id, traces, shape, { displayModeBar: false, responsive: true, scrollZoom: false }));

  // Draw now, and again when the colours change. Paper is white: print in the light colours.
  function follow(drawAll) {
    const printing = (on) => { document.documentElement.toggleAttribute("data-print", on); drawAll(); };
    addEventListener("beforeprint", () => printing(true));
    addEventListener("afterprint", () => printing(false));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    drawAll();
  }

  return { data, colour, plain, style, element, drawing, swatch, entry, axis, layout, draw, plotly, follow };
})();
