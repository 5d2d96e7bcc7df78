// The link to the other language leads to the section that is being read.
const link = document.querySelector(".language-switch");
const page = link?.getAttribute("href");
link?.addEventListener("click", () => {
  const read = [...document.querySelectorAll("section[id]")].filter((s) => s.getBoundingClientRect().top < 150);
  const section = read.at(-1)?.id ?? "";
  link.setAttribute("href", read.length > 1 ? `${page}#${section}` : page);
});
