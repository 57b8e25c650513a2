"use strict";
// Each element with data-figure holds a plotly figure; its inks are taken from the page's theme.
(() => {
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    for (const node of document.querySelectorAll("[data-figure]")) {
      const { data, layout } = JSON.parse(node.dataset.figure);
      const font = { ...layout.font, color: colour("--muted"), family: getComputedStyle(document.body).fontFamily };
      const hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } };
      for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
        Object.assign(layout[name], { gridcolor: colour("--line"), tickfont: { color: colour("--muted") } });
      }
      Plotly.react(node, data, { ...layout, font, hoverlabel }, { responsive: true, displayModeBar: false });
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
