//! Arguments of the constructor, out of their ranges.

use goldstep_core::{AdafactorArguments, AdafactorArgumentsBuilder};

use crate::Bad;

fn builder() -> AdafactorArgumentsBuilder {
    AdafactorArguments::builder()
}

/// Every rule of `build()`.
pub(crate) const ARGUMENTS: &[Bad] = &[
    Bad {
        name: "learning-rate-nan",
        attempt: || builder().learning_rate(f64::NAN).build().map(drop),
        message: "learning_rate must be finite and at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "learning-rate-infinite",
        attempt: || builder().learning_rate(f64::INFINITY).build().map(drop),
        message: "learning_rate must be finite and at least 0, got inf",
        keras_type: "ValueError",
    },
    Bad {
        name: "learning-rate-negative",
        attempt: || builder().learning_rate(-0.5).build().map(drop),
        message: "learning_rate must be finite and at least 0, got -0.5",
        keras_type: "ValueError",
    },
    Bad {
        name: "epsilon-1-negative",
        attempt: || builder().epsilon_1(-1e-30).build().map(drop),
        message: "epsilon_1 must be at least 0, got -0.000000000000000000000000000001",
        keras_type: "ValueError",
    },
    Bad {
        name: "epsilon-1-nan",
        attempt: || builder().epsilon_1(f64::NAN).build().map(drop),
        message: "epsilon_1 must be at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "epsilon-2-negative",
        attempt: || builder().epsilon_2(-1.0).build().map(drop),
        message: "epsilon_2 must be at least 0, got -1",
        keras_type: "ValueError",
    },
    Bad {
        name: "epsilon-2-nan",
        attempt: || builder().epsilon_2(f64::NAN).build().map(drop),
        message: "epsilon_2 must be at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "clip-threshold-0",
        attempt: || builder().clip_threshold(0.0).build().map(drop),
        message: "clip_threshold must be above 0, got 0",
        keras_type: "ValueError",
    },
    Bad {
        name: "clip-threshold-nan",
        attempt: || builder().clip_threshold(f64::NAN).build().map(drop),
        message: "clip_threshold must be above 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "beta-2-decay-positive",
        attempt: || builder().beta_2_decay(0.1).build().map(drop),
        message: "beta_2_decay must be at most 0, got 0.1",
        keras_type: "ValueError",
    },
    Bad {
        name: "beta-2-decay-nan",
        attempt: || builder().beta_2_decay(f64::NAN).build().map(drop),
        message: "beta_2_decay must be at most 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "weight-decay-negative",
        attempt: || builder().weight_decay(-0.1).build().map(drop),
        message: "weight_decay must be at least 0, got -0.1",
        keras_type: "ValueError",
    },
    Bad {
        name: "weight-decay-nan",
        attempt: || builder().weight_decay(f64::NAN).build().map(drop),
        message: "weight_decay must be at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "clipnorm-negative",
        attempt: || builder().clipnorm(-1.0).build().map(drop),
        message: "clipnorm must be finite and at least 0, got -1",
        keras_type: "ValueError",
    },
    Bad {
        name: "clipnorm-nan",
        attempt: || builder().clipnorm(f64::NAN).build().map(drop),
        message: "clipnorm must be finite and at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "clipvalue-infinite",
        attempt: || builder().clipvalue(f64::INFINITY).build().map(drop),
        message: "clipvalue must be finite and at least 0, got inf",
        keras_type: "ValueError",
    },
    Bad {
        name: "clipvalue-nan",
        attempt: || builder().clipvalue(f64::NAN).build().map(drop),
        message: "clipvalue must be finite and at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "global-clipnorm-negative",
        attempt: || builder().global_clipnorm(-2.0).build().map(drop),
        message: "global_clipnorm must be finite and at least 0, got -2",
        keras_type: "ValueError",
    },
    Bad {
        name: "both-norms",
        attempt: || builder().clipnorm(0.0).global_clipnorm(0.0).build().map(drop),
        message: "at most one of clipnorm and global_clipnorm may be set, got 0 and 0",
        keras_type: "ValueError",
    },
    Bad {
        name: "ema-momentum-above-1",
        attempt: || builder().use_ema(true).ema_momentum(1.5).build().map(drop),
        message: "ema_momentum must be in [0, 1], got 1.5",
        keras_type: "ValueError",
    },
    Bad {
        name: "ema-momentum-below-0",
        attempt: || builder().use_ema(true).ema_momentum(-0.1).build().map(drop),
        message: "ema_momentum must be in [0, 1], got -0.1",
        keras_type: "ValueError",
    },
    Bad {
        name: "ema-momentum-nan-unused",
        attempt: || builder().ema_momentum(f64::NAN).build().map(drop),
        message: "ema_momentum must be in [0, 1], got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "clip-threshold-negative",
        attempt: || builder().clip_threshold(-1.0).build().map(drop),
        message: "clip_threshold must be above 0, got -1",
        keras_type: "ValueError",
    },
    Bad {
        name: "clipvalue-negative",
        attempt: || builder().clipvalue(-0.1).build().map(drop),
        message: "clipvalue must be finite and at least 0, got -0.1",
        keras_type: "ValueError",
    },
    Bad {
        name: "clipnorm-infinite",
        attempt: || builder().clipnorm(f64::INFINITY).build().map(drop),
        message: "clipnorm must be finite and at least 0, got inf",
        keras_type: "ValueError",
    },
    Bad {
        name: "global-clipnorm-nan",
        attempt: || builder().global_clipnorm(f64::NAN).build().map(drop),
        message: "global_clipnorm must be finite and at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "global-clipnorm-infinite",
        attempt: || builder().global_clipnorm(f64::INFINITY).build().map(drop),
        message: "global_clipnorm must be finite and at least 0, got inf",
        keras_type: "ValueError",
    },
    Bad {
        name: "ema-momentum-infinite",
        attempt: || builder().use_ema(true).ema_momentum(f64::INFINITY).build().map(drop),
        message: "ema_momentum must be in [0, 1], got inf",
        keras_type: "ValueError",
    },
];
