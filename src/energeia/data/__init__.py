"""Sources of data, the check at the door, and random changes of a batch."""

from energeia.core.transform import Transform
from energeia.data.augment import Affine, Chain, Dequantize, EachSite, GaussianNoise
from energeia.data.binarised import Binarised
from energeia.data.check import check_batch
from energeia.data.digits import Digits
from energeia.data.gray import GrayCoded, from_gray_code, gray_code
from energeia.data.image import ImageFolder
from energeia.data.mnist import Mnist
from energeia.data.open import source_class
from energeia.data.sequences import Sequences
from energeia.data.source import Contents, Described, Reading, Source, Splits
from energeia.data.table import Table
from energeia.data.toy import Toy

__all__ = [
    "Affine",
    "Binarised",
    "Chain",
    "Contents",
    "Dequantize",
    "Described",
    "Digits",
    "EachSite",
    "GaussianNoise",
    "GrayCoded",
    "ImageFolder",
    "Mnist",
    "Reading",
    "Sequences",
    "Source",
    "Splits",
    "Table",
    "Toy",
    "Transform",
    "check_batch",
    "from_gray_code",
    "gray_code",
    "source_class",
]
