export default {
  data: { greeting: "Coffee, black." },
};
