package neigh
