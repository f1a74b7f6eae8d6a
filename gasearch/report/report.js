"use strict";
// Figures: drawn by plotly from the JSON above; a click on a point shows its structure.
(function () {
  const figures = JSON.parse(document.getElementById("gasearch-figures").textContent);
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  for (const place of document.querySelectorAll(".plot")) {
    const figure = figures[place.dataset.figure];
    Plotly.newPlot(place, figure.data, figure.layout, options);
    place.on("plotly_click", function (event) {
      const target = event.points[0].customdata;
      if (target && window.showStructure) window.showStructure(target);
    });
  }
  for (const button of document.querySelectorAll("button.show")) {
    button.addEventListener("click", () => window.showStructure(button.dataset.structure));
  }
})();
