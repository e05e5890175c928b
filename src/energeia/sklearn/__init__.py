"""The face that scikit-learn knows: energies as estimators, in pipelines and grid searches."""

from energeia.sklearn.density import Density
from energeia.sklearn.rbm import RBM

__all__ = ["RBM", "Density"]
