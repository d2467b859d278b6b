export default {
  onLaunch() {
    console.log("Coffee 1.0.0.1");
  },
};
