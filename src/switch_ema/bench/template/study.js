// Draws the figures from the data the page carries; every number in it was computed before.
(() => {
  const { data, colour, plain, style, drawing, swatch, entry, axis, draw } = bench;
  const hidden = data.plots.map(() => new Set());
  const PANEL = 230, NARROW = 560, NARROW_BAR = 20; // pixels that a small map needs; below which a colour bar lies flat; its height

  function mix(one, other, share) {
    const parts = [one, other].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    return `rgb(${parts[0].map((part, i) => Math.round(part * (1 - share) + parts[1][i] * share)).join(",")})`;
  }

  const classColour = (k, share = 0) => mix(colour(`series-${(k % 7) + 1}`), colour("paper"), Math.min(0.9, share + 0.25 * Math.floor(k / 7)));

  // What belongs to the theme: a trace only says which method it is of, or what kind of thing it shows.
  function themed(trace, width) {
    const meta = trace.meta ?? {};
    const made = { ...trace, ...(trace.name === undefined ? {} : { name: plain(trace.name) }) };
    if (meta.reference) return { ...made, line: { color: colour("muted"), width: 1.25, dash: "4,4" } };
    if (meta.ground) {
      const flat = width < NARROW ? { orientation: "h", y: -0.2, yanchor: "top", thickness: 12, title: { ...trace.colorbar.title, side: "top" } } : {};
      return { ...made, colorscale: [[0, colour("ground-low")], [1, colour("ground-high")]], line: { width: 0.5, color: colour("rule") }, colorbar: { ...trace.colorbar, ...flat } };
    }
    if (meta.map) return { ...made, ...mapped(trace, meta.map) };
    if (meta.examples) {
      const fill = meta.examples.map((k) => classColour(k));
      return { ...made, marker: { color: fill, size: 7, line: { width: 1.5, color: colour("paper") } } };
    }
    if (meta.series === undefined) return made;
    const { name, dash, symbol, width: thick } = style(meta.series);
    const own = colour(name);
    if (meta.band) return { ...made, line: { width: 0, color: own }, fillcolor: own, opacity: 0.13 };
    if (trace.type === "surface") return { ...made, ...lit(own) };
    const bars = (error) => ({ thickness: 1.75, width: 0, ...error, color: colour(trace.type === "bar" ? "ink" : name) });
    const errors = Object.fromEntries(["error_x", "error_y"].filter((key) => trace[key]).map((key) => [key, bars(trace[key])]));
    if (trace.type === "bar") return { ...made, marker: { color: mix(own, colour("paper"), 0.25), ...trace.marker }, ...errors };
    const edge = trace.marker?.line ? { line: { color: colour("paper"), ...trace.marker.line } } : {};
    return { ...made, line: { color: own, width: thick, dash, ...trace.line }, marker: { color: own, symbol: symbol[0], size: 7, ...trace.marker, ...edge }, ...errors };
  }

  // Two classes: the paler, the less sure. More: the colour of the class.
  function mapped(trace, classes) {
    if (classes.length === 2) {
      return { colorscale: [[0, classColour(0, 0.3)], [0.5, colour("paper")], [1, classColour(1, 0.3)]], hovertemplate: `probability of ${plain(classes[1])}: %{z:.2f}<extra></extra>` };
    }
    const n = classes.length;
    return {
      colorscale: classes.flatMap((_, k) => [[k / n, classColour(k, 0.45)], [(k + 1) / n, classColour(k, 0.45)]]), zmin: -0.5, zmax: n - 0.5,
      text: trace.z.map((row) => row.map((k) => plain(classes[k] ?? ""))), hovertemplate: "%{text}<extra></extra>",
    };
  }

  function lit(own) {
    const lines = { show: true, color: mix(own, "#000000", 0.4), width: 1, highlight: false };
    return {
      colorscale: [[0, mix(own, "#000000", 0.25)], [1, mix(own, "#ffffff", 0.35)]], contours: { x: lines, y: lines },
      lighting: { ambient: 0.75, diffuse: 0.5, specular: 0.05, roughness: 0.9 },
    };
  }

  function layout({ layout: given, height }, width) {
    const looks = { ...axis(), zerolinecolor: colour("muted"), zerolinewidth: 1 };
    const made = { ...bench.layout(), ...given };
    for (const key of ["xaxis", "yaxis", ...Object.keys(given).filter((name) => /^[xy]axis\d+$/.test(name))]) {
      made[key] = { ...looks, ...given[key], title: { ...looks.title, ...given[key]?.title } };
    }
    if (given.scene) {
      const wall = { gridcolor: colour("rule"), linecolor: colour("rule"), zeroline: false, showspikes: false, color: colour("muted") };
      made.scene = { ...given.scene, ...Object.fromEntries(["xaxis", "yaxis", "zaxis"].map((key) => [key, { ...wall, ...given.scene[key] }])) };
      const { eye } = given.scene.camera, back = Math.max(1, (1.05 * height) / width); // on a narrow page stand back
      made.scene.camera = { ...given.scene.camera, eye: { x: back * eye.x, y: back * eye.y, z: back * eye.z } };
      Object.assign(made, { dragmode: "turntable", uirevision: "kept" });
    }
    if (given.yaxis?.scaleanchor) made.height = Math.min(height, width + NARROW_BAR * (width < NARROW));
    return given.meta?.panels ? arranged(made, given.meta.panels, width) : made;
  }

  // Small maps side by side, as many as there is room for; each is square below its name.
  function arranged(made, names, width) {
    const columns = Math.max(1, Math.min(names.length, Math.floor(width / PANEL))), rows = Math.ceil(names.length / columns);
    const labels = names.map((name) => plain(name).split(/(?<=[:,])/).join("<br>"));
    const [gap, foot] = [40, 34], head = 8 + 17 * Math.max(...labels.map((label) => label.split("<br>").length));
    const inner = width - 48, side = Math.min((inner - gap * (columns - 1)) / columns, 340), tall = head + side + foot, height = rows * tall;
    const annotations = labels.map((text, i) => {
      const row = Math.floor(i / columns), column = i % columns, place = i ? i + 1 : "";
      const left = column * (side + gap) / inner, right = left + side / inner, top = 1 - (row * tall + head) / height, bottom = top - side / height;
      const last = i + columns >= names.length;
      Object.assign(made[`xaxis${place}`], { domain: [left, right], anchor: `y${place}`, nticks: 5, title: { ...made[`xaxis${place}`].title, ...(last ? {} : { text: "" }) } });
      Object.assign(made[`yaxis${place}`], { domain: [bottom, top], anchor: `x${place}`, nticks: 5, title: { ...made[`yaxis${place}`].title, ...(column ? { text: "" } : {}) } });
      return { text, showarrow: false, xref: "paper", yref: "paper", x: left, y: top, xanchor: "left", yanchor: "bottom", align: "left", font: { color: colour("ink"), size: 13 } };
    });
    return { ...made, annotations, height: height + 16, autosize: true, margin: { l: 40, r: 8, t: 8, b: 8 } };
  }

  function drawPlot(i) {
    const plot = data.plots[i], width = document.getElementById(`plot-${i}`).clientWidth;
    const key = (trace) => trace.legendgroup ?? trace.name;
    const traces = plot.traces.map((trace) => ({ ...themed(trace, width), visible: !hidden[i].has(key(trace)) }));
    const shape = layout(plot, width);
    if (shape.height) document.getElementById(`plot-${i}`).style.height = `${shape.height}px`;
    draw(`plot-${i}`, traces, shape);
  }

  function addLegend(i) {
    const { traces, layout: given } = data.plots[i], box = document.getElementById(`legend-${i}`), known = new Set();
    const block = (fill) => drawing({ d: "M8 1h16v12h-16Z", fill });
    (given.meta?.classes ?? []).forEach((name, k) => box.append(entry(name, block(classColour(k)))));
    for (const trace of traces) {
      const group = trace.legendgroup ?? trace.name, number = trace.meta?.series;
      if (trace.name === undefined || number === undefined || known.has(group)) continue;
      known.add(group);
      const isFilled = trace.type === "bar" || trace.type === "surface";
      box.append(entry(trace.name, isFilled ? block(`var(--${style(number).name})`) : swatch(style(number)), (on) => {
        hidden[i][on ? "delete" : "add"](group);
        drawPlot(i);
      }));
    }
  }

  let drawnAt = innerWidth;
  data.plots.forEach((_, i) => addLegend(i));
  bench.follow(() => data.plots.forEach((_, i) => drawPlot(i)));
  addEventListener("resize", () => {
    if (drawnAt === innerWidth) return;
    drawnAt = innerWidth;
    data.plots.forEach((plot, i) => { if (plot.layout.meta?.panels) drawPlot(i); });
  });
})();
