// For a page whose runs go on: loads it anew every few seconds, with what the reader chose, opened and scrolled to.
(() => {
  const KEY = `sema ${location.pathname}`, EVERY = 5000; // milliseconds
  const boxes = () => [...document.querySelectorAll("input[type=checkbox]")];
  const selects = () => [...document.querySelectorAll("select")];
  const folds = () => [...document.querySelectorAll("details")];
  const nameOf = (box) => box.parentElement.textContent;

  function keep() {
    sessionStorage.setItem(KEY, JSON.stringify({
      hidden: boxes().filter((box) => !box.checked).map(nameOf),
      chosen: selects().map((select) => [select.id, select.value]),
      open: folds().map((fold) => fold.open),
      scroll: scrollY,
    }));
  }

  function restore({ hidden, chosen, open, scroll }) {
    boxes().filter((box) => hidden.includes(nameOf(box))).forEach((box) => box.click());
    for (const [id, value] of chosen) {
      const select = document.getElementById(id);
      if (select && select.value !== value && [...select.options].some((option) => option.value === value)) {
        select.value = value;
        select.dispatchEvent(new Event("change"));
      }
    }
    folds().forEach((fold, k) => { fold.open = open[k] ?? fold.open; });
    scrollTo({ top: scroll, behavior: "instant" });
  }

  const kept = sessionStorage.getItem(KEY);
  if (kept) restore(JSON.parse(kept));
  bench.plotly.then(() => setInterval(() => { // the figures are drawn by then
    if (document.hidden) return;
    keep();
    location.reload();
  }, EVERY));
})();
