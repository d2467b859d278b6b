export default {
  data: { greeting: "Coffee, with milk if you like." },
};
