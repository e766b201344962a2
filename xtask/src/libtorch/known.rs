//! Where libtorch's backend differs from tf.keras on purpose, case by case.

use goldstep_conformance::KnownDifference;
use goldstep_conformance::agreement::Quantity::{self, C, R, V, Variable};

/// Arithmetic and state of halves are float32. Keras rounds every operation to float16, where ε₁ is
/// 0, 300² is infinite and 2047 + 1 is the last step that it counts: there its results are NaN,
/// infinite or drift, and these are not.
const FLOAT16: &str =
    "arithmetic and state are float32, which neither overflows nor underflows here";

const CASES: [(&str, &str, &[Quantity]); 12] = [
    ("long", "long-2100-counter-f16", &[R, C, V]),
    ("values", "values-gradient-huge-f16", &[R, C, V, Variable]),
    ("values", "values-gradient-largest-f16", &[V, Variable]),
    ("values", "values-gradients-huge-f16", &[R, C, V, Variable]),
    ("values", "values-gradients-largest-f16", &[V, Variable]),
    ("values", "values-gradients-subnormal-f16", &[V, Variable]),
    ("values", "values-gradients-tiny-f16", &[V, Variable]),
    ("values", "values-zero-all-f16", &[V, Variable]),
    ("values", "values-zero-column-f16", &[Variable]),
    ("values", "values-zero-element-f16", &[Variable]),
    ("values", "values-zero-row-and-column-f16", &[Variable]),
    ("values", "values-zero-row-f16", &[Variable]),
];

/// Every entry must differ: one that agrees after all is an error.
pub(crate) fn known_differences() -> Vec<KnownDifference> {
    let entry = |family: &str, case: &str, quantity: Quantity| KnownDifference {
        family: family.to_owned(),
        case: Some(case.to_owned()),
        quantity,
        reason: FLOAT16.to_owned(),
    };
    CASES
        .iter()
        .flat_map(|(family, case, quantities)| {
            quantities.iter().map(move |quantity| entry(family, case, *quantity))
        })
        .collect()
}
