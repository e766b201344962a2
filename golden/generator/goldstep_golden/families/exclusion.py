"""Variables that are left out of weight decay by patterns over their names."""

from .build import FLOATS, drawn_case

SHAPES = {
    "encoder/dense/kernel": (2, 3),
    "encoder/dense/bias": (3,),
    "encoder/norm_1/gamma": (3,),
    "decoder/Bias_2": (2,),
    "scale": (),
}

_PATTERNS = {
    "none": [],
    "word": ["bias"],
    "words": ["gamma", "scale"],
    "alternatives": ["bias|gamma"],
    "anchored": ["^encoder/"],
    "class": ["norm_[0-9]+"],
    "ignoring-case": ["(?i)bias"],
    "everything": [""],
    "nobody": ["kernels"],
    "middle": ["dense/.*s"],
    "twice": ["bias", "bias", "dense"],
}


def define():
    """Each list of patterns; then exclusion without decay and together with averages."""
    for name, patterns in _PATTERNS.items():
        for dtype in FLOATS:
            yield _case(name, dtype, "A pattern may match anywhere in the name.", patterns, {})
    for dtype in FLOATS:
        yield _case(
            "with-schedule-and-ema",
            dtype,
            "An excluded variable is still updated and averaged.",
            ["bias", "gamma"],
            {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 2},
        )
        definition = _case(
            "without-decay", dtype, "Without weight decay a pattern has no effect.", ["bias"], {}
        )
        del definition["arguments"]["weight_decay"]
        yield definition


def _case(name, dtype, comment, patterns, arguments):
    return drawn_case(
        f"exclusion-{name}",
        dtype,
        comment,
        ["exclusion"],
        {"learning_rate": 0.2, "weight_decay": 0.3, **arguments},
        SHAPES,
        3,
        exclude_from_weight_decay=patterns,
    )
