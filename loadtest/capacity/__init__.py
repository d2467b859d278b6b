"""How many gateways a release day needs: arithmetic over figures that `make bench` measured."""
