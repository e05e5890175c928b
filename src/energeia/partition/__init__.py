"""Estimates of log Z."""

from energeia.partition.ais import ais, reverse_ais
from energeia.partition.bracket import Effort, bracket, enclosing, merged
from energeia.partition.bridge import bridge, mbar
from energeia.partition.choose import log_z
from energeia.partition.eliminate import variable_elimination
from energeia.partition.exact import exact_log_z
from energeia.partition.ladder import tempering, thermodynamic_integration
from energeia.partition.likelihood import BitsPerDimension, LogLikelihood, bits_per_dimension, log_likelihood
from energeia.partition.mean_field import mean_field
from energeia.partition.message import bethe, tree_reweighted
from energeia.partition.moments import moment_path
from energeia.partition.ode import ode_log_prob
from energeia.partition.perturb import gumbel_bounds
from energeia.partition.smc import smc
from energeia.partition.variational import variational_bound

__all__ = [
    "BitsPerDimension",
    "Effort",
    "LogLikelihood",
    "ais",
    "bethe",
    "bits_per_dimension",
    "bracket",
    "bridge",
    "enclosing",
    "exact_log_z",
    "gumbel_bounds",
    "log_likelihood",
    "log_z",
    "mbar",
    "mean_field",
    "merged",
    "moment_path",
    "ode_log_prob",
    "reverse_ais",
    "smc",
    "tempering",
    "thermodynamic_integration",
    "tree_reweighted",
    "variable_elimination",
    "variational_bound",
]
