"use strict";
/* Draws each chart when it comes near the window, in place of its still picture, which stays for print and for a chart
   that cannot be drawn. */
(function () {
  const data = JSON.parse(document.getElementById("rayalign-charts").textContent);
  const options = {
    ast: true, // no eval, which the page's policy forbids
    actions: false,
    renderer: "svg", // takes its colours from the page's style, in light and in dark
    defaultStyle: false,
    config: data.config,
    logLevel: 1, // errors
    tooltip: { theme: "page", disableDefaultStyle: true },
  };

  function draw(place) {
    const box = document.createElement("div");
    box.className = "drawn";
    box.setAttribute("aria-hidden", "true"); // the place has one alternative text
    place.append(box);
    return window.vegaEmbed(box, data.specs[place.id], options).then(
      () => place.classList.add("ready"),
      (error) => {
        box.remove();
        console.error(place.id, error);
      },
    );
  }

  const places = document.querySelectorAll(".chart[id]");
  if (!("IntersectionObserver" in window)) {
    places.forEach(draw);
    return;
  }
  const watcher = new IntersectionObserver(
    (seen) => {
      for (const one of seen) {
        if (one.isIntersecting) {
          watcher.unobserve(one.target);
          draw(one.target);
        }
      }
    },
    { rootMargin: "300px" },
  );
  places.forEach((place) => watcher.observe(place));
})();
