"""Maps and settings in, a trajectory out; and what else is found between maps: fields, bodies, an order."""
