//! The mistakes: names, and what is wrong.

/// Whether a judge has to reject an entry or to accept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Correct.
    None,
    /// Wrong: at least one case has to fail.
    Wrong,
    /// Another order of correct operations: every family but that of extreme values has to pass.
    Harmless,
}

macro_rules! mistakes {
    ($($(#[$doc:meta])* $variant:ident $effect:ident $id:literal $what:literal;)*) => {
        /// What is wrong with a mutant; [`what`](Self::what) says it in words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Mistake {
            $(#[doc = $what] $variant,)*
        }

        impl Mistake {
            /// Every entry, the correct one first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in tables and on the command line.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What is wrong, in a few words.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }

            /// Whether it has to be rejected.
            #[must_use]
            pub const fn effect(self) -> Effect {
                match self { $(Self::$variant => Effect::$effect,)* }
            }
        }
    };
}

impl Mistake {
    /// The entry of that name.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mistake| mistake.id() == id)
    }

    /// Every entry that has to be rejected.
    pub fn wrong() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|mistake| mistake.effect() == Effect::Wrong)
    }

    /// Every entry that has to be accepted although it computes in another order.
    pub fn harmless() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|mistake| mistake.effect() == Effect::Harmless)
    }
}

mistakes! {
    None None "none" "nothing: equals the reference bit for bit";

    // Averages of variables.
    EmaStartsAtZero Wrong "ema_starts_at_zero" "the average starts at 0";
    EmaStartsAfterFirstStep Wrong "ema_starts_after_first_step" "the average starts at the variable after its first step";
    EmaBeforeUpdate Wrong "ema_before_update" "the average sees the variable before the update";
    EmaMomentumSwapped Wrong "ema_momentum_swapped" "m and 1 − m swapped in the average";
    EmaMomentumIgnored Wrong "ema_momentum_ignored" "ema_momentum is 0.99 whatever the argument says";
    EmaBiasCorrected Wrong "ema_bias_corrected" "overwrites with the average divided by 1 − mᵗ";
    EmaOverwriteIgnored Wrong "ema_overwrite_ignored" "ema_overwrite_frequency ignored";
    EmaOverwriteAtIterations Wrong "ema_overwrite_at_iterations" "overwrites when iterations, not iterations + 1, is a multiple of the frequency";
    EmaOverwriteBeforeAverage Wrong "ema_overwrite_before_average" "overwrites before the average is updated";
    EmaOverwriteEveryStep Wrong "ema_overwrite_every_step" "overwrites at every step if a frequency is set";
    EmaOverwriteOnce Wrong "ema_overwrite_once" "overwrites at the first multiple of the frequency only";
    EmaRestartsAfterOverwrite Wrong "ema_restarts_after_overwrite" "the average becomes 0 after an overwrite";
    EmaShortcuts Wrong "ema_shortcuts" "nothing multiplied where ema_momentum is 0 or 1, so that NaN and infinities go";
    EmaPairedByPosition Wrong "ema_paired_by_position" "averages paired with the filtered list by position, as in Keras 2.12";
    EmaWithoutGradient Wrong "ema_without_gradient" "the average moves although the gradient is missing";
    EmaNotRestored Wrong "ema_not_restored" "the average is not restored from a checkpoint";
    FinalizeIgnored Wrong "finalize_ignored" "finalize_variable_values does nothing";

    // The two epsilons.
    Epsilon1OutsideSquare Wrong "epsilon_1_outside_square" "epsilon_1 added to √v";
    Epsilon1OnSecondMoment Wrong "epsilon_1_on_second_moment" "epsilon_1 added to v, not to g²";
    Epsilon1Dropped Wrong "epsilon_1_dropped" "no epsilon_1";
    Epsilon1Constant Wrong "epsilon_1_constant" "epsilon_1 is 1e-30 whatever the argument says";
    Epsilon1Squared Wrong "epsilon_1_squared" "epsilon_1² added to g²";
    Epsilon1Floor Wrong "epsilon_1_floor" "max(g², epsilon_1) for g² + epsilon_1";
    Epsilon2Ignored Wrong "epsilon_2_ignored" "no epsilon_2: the step is 0 where the variable is";
    Epsilon2Constant Wrong "epsilon_2_constant" "epsilon_2 is 1e-3 whatever the argument says";
    Epsilon2Added Wrong "epsilon_2_added" "rms(x) + epsilon_2 for max(epsilon_2, rms(x))";
    Epsilon2UnderRoot Wrong "epsilon_2_under_root" "epsilon_2 compared with the mean square, not with its root";
    EpsilonsSwapped Wrong "epsilons_swapped" "epsilon_1 and epsilon_2 exchanged";

    // Factoring.
    TwoLargestAxes Wrong "two_largest_axes" "the two largest axes factored, not the last two";
    FirstTwoAxes Wrong "first_two_axes" "the first two axes factored";
    NothingFactored Wrong "nothing_factored" "a full v for every rank";
    OnlyRank2Factored Wrong "only_rank_2_factored" "a full v from rank 3";
    RowsAndColumnsSwapped Wrong "rows_and_columns_swapped" "r and c exchanged";
    UnitAxesSqueezed Wrong "unit_axes_squeezed" "axes of length 1 dropped before factoring";
    LeadingAxesFlattened Wrong "leading_axes_flattened" "leading axes folded into the rows";
    FactorsAreSums Wrong "factors_are_sums" "r and c hold sums, not means";
    NotNormalised Wrong "not_normalised" "v = r ⊗ c, not divided by mean(r)";
    NormalisedBySum Wrong "normalised_by_sum" "r divided by its sum, not by its mean";
    NormalisedPerTensor Wrong "normalised_per_tensor" "r divided by the mean over all leading indices";
    NormalisedByBoth Wrong "normalised_by_both" "both r and c divided by their means";
    NormalisedByGradient Wrong "normalised_by_gradient" "r divided by the mean of this step's g², not by its own";

    // Clipping of gradients.
    ClipnormIgnored Wrong "clipnorm_ignored" "clipnorm ignored";
    ClipnormOnUpdate Wrong "clipnorm_on_update" "clipnorm applied to the update";
    ClipnormAsGlobal Wrong "clipnorm_as_global" "clipnorm applied to all tensors together";
    ClipnormScalesUp Wrong "clipnorm_scales_up" "gradients below clipnorm scaled up to it";
    ClipnormOfRms Wrong "clipnorm_of_rms" "clipnorm compared with the RMS, not with the norm";
    ClipnormZeroClips Wrong "clipnorm_zero_clips" "clipnorm = 0 makes the gradient 0 instead of being off";
    ClipnormPlusEpsilon Wrong "clipnorm_plus_epsilon" "1e-6 added to the norm, as torch.nn.utils does";
    GlobalClipnormIgnored Wrong "global_clipnorm_ignored" "global_clipnorm ignored";
    GlobalClipnormPerTensor Wrong "global_clipnorm_per_tensor" "global_clipnorm applied to each tensor";
    GlobalClipnormScalesUp Wrong "global_clipnorm_scales_up" "gradients below global_clipnorm scaled up to it";
    GlobalClipnormSumsNorms Wrong "global_clipnorm_sums_norms" "the global norm is the sum of the norms";
    ClipvalueIgnored Wrong "clipvalue_ignored" "clipvalue ignored";
    ClipvalueUpperOnly Wrong "clipvalue_upper_only" "clipvalue bounds the upper side only";
    ClipvalueLowerOnly Wrong "clipvalue_lower_only" "clipvalue bounds the lower side only";
    ClipvalueFirst Wrong "clipvalue_first" "clipvalue takes precedence over the norms";
    BothClipsApplied Wrong "both_clips_applied" "clipvalue applied after a norm";
    BothNormsAccepted Wrong "both_norms_accepted" "clipnorm and global_clipnorm together are accepted";

    // The learning rate.
    RelativeStepIgnoresRate Wrong "relative_step_ignores_rate" "relative_step = True uses 1/√t alone";
    RelativeStepLiftsCap Wrong "relative_step_lifts_cap" "relative_step = False lifts the cap 1/√t";
    RateNotCapped Wrong "rate_not_capped" "no cap 1/√t at all";
    RateTimesInverseRoot Wrong "rate_times_inverse_root" "lr · 1/√t for min(lr, 1/√t)";
    CapFromIterations Wrong "cap_from_iterations" "the cap is 1/√max(1, iterations)";
    CapOneStepLater Wrong "cap_one_step_later" "the cap is 1/√(t + 1)";
    CapOfPaper Wrong "cap_of_paper" "the cap is min(1e-2, 1/√t), as in the paper";
    ScheduleOneStepAhead Wrong "schedule_one_step_ahead" "the schedule is evaluated at iterations + 1";
    ScheduleFrozen Wrong "schedule_frozen" "the schedule is evaluated once, at iteration 0";
    ScheduleNotCapped Wrong "schedule_not_capped" "no cap 1/√t on a schedule";
    AssignedRateIgnored Wrong "assigned_rate_ignored" "a learning rate assigned in mid-run is ignored";
    AssignedRateIgnoredAtFirst Wrong "assigned_rate_ignored_at_first" "a learning rate assigned before the first step is ignored";
    AssignedRateLate Wrong "assigned_rate_late" "a learning rate assigned in mid-run counts one step late";

    // Counting.
    MissingNotCounted Wrong "missing_not_counted" "a step with a missing gradient does not count";
    CountedPerVariable Wrong "counted_per_variable" "iterations grows by the number of variables";
    IterationsNotRestored Wrong "iterations_not_restored" "iterations is not restored from a checkpoint";
    FactorsNotRestored Wrong "factors_not_restored" "the second moment is not restored from a checkpoint";

    // The parameter scale.
    ScaleOff Wrong "scale_off" "no parameter scale: α = ρ";
    ScaleOfPreviousStep Wrong "scale_of_previous_step" "rms(x) taken from the step before";
    ScaleIsNorm Wrong "scale_is_norm" "the norm of x for its RMS";
    ScaleIsMeanMagnitude Wrong "scale_is_mean_magnitude" "the mean of |x| for its RMS";
    ScaleIsLargest Wrong "scale_is_largest" "the largest |x| for its RMS";
    ScalePerSlice Wrong "scale_per_slice" "rms(x) per leading index, not over the whole variable";
    ScaleOfInitial Wrong "scale_of_initial" "rms(x) of the first step kept for ever";

    // The second moment.
    Beta2FromIterations Wrong "beta_2_from_iterations" "β₂ from the 0-based step";
    Beta2OneStepLater Wrong "beta_2_one_step_later" "β₂ from t + 1";
    Beta2Constant Wrong "beta_2_constant" "β₂ = 0.999 in every step";
    Beta2DecayIgnored Wrong "beta_2_decay_ignored" "beta_2_decay is −0.8 whatever the argument says";
    Beta2Capped Wrong "beta_2_capped" "β₂ never above 0.98";
    Beta2Swapped Wrong "beta_2_swapped" "β₂ and 1 − β₂ swapped";
    GainMissing Wrong "gain_missing" "g² not multiplied by 1 − β₂";
    SecondMomentForgets Wrong "second_moment_forgets" "v without memory below rank 2";
    FactorsForget Wrong "factors_forget" "r and c without memory";
    ColumnFactorForgets Wrong "column_factor_forgets" "c without memory";
    SecondMomentAveraged Wrong "second_moment_averaged" "the full v averaged again from rank 2";
    FactorsLate Wrong "factors_late" "the update uses the second moment of the step before";

    // The clipping of updates.
    UpdateAlwaysDivided Wrong "update_always_divided" "u always divided by rms(u)/d";
    ClipThresholdIgnored Wrong "clip_threshold_ignored" "clip_threshold is 1 whatever the argument says";
    UpdateDividedByLarger Wrong "update_divided_by_larger" "u divided by max(d, rms(u))";
    UpdateNotClipped Wrong "update_not_clipped" "u not clipped";
    UpdateRmsIsNorm Wrong "update_rms_is_norm" "the norm of u for its RMS";
    UpdateRmsPerSlice Wrong "update_rms_per_slice" "rms(u) per leading index, not over the whole variable";
    UpdateRmsPerBlock Wrong "update_rms_per_block" "rms(u) per block of 4096 elements";
    UpdateRmsOfGradient Wrong "update_rms_of_gradient" "rms(g) for rms(u)";
    UpdateClippedByElement Wrong "update_clipped_by_element" "u clipped to ±d element by element";
    UpdateTimesThreshold Wrong "update_times_threshold" "rms(u) · d for rms(u)/d";

    // Weight decay.
    DecayIgnored Wrong "decay_ignored" "weight_decay ignored";
    DecayTimesAlpha Wrong "decay_times_alpha" "weight decay multiplied by α, not by lr";
    DecayTimesCappedRate Wrong "decay_times_capped_rate" "weight decay multiplied by ρ, not by lr";
    DecayNotTimesRate Wrong "decay_not_times_rate" "weight decay not multiplied by lr";
    DecayOnGradient Wrong "decay_on_gradient" "weight decay added to the gradient";
    DecayAfterUpdate Wrong "decay_after_update" "weight decay after the update";
    RmsBeforeDecay Wrong "rms_before_decay" "rms(x) taken before weight decay";
    DecayAdded Wrong "decay_added" "weight decay added, not subtracted";
    DecayTwice Wrong "decay_twice" "weight decay applied twice";
    DecayOfMatricesOnly Wrong "decay_of_matrices_only" "no weight decay below rank 2";
    DecayWithoutGradient Wrong "decay_without_gradient" "weight decay although the gradient is missing";
    ExclusionIgnored Wrong "exclusion_ignored" "exclude_from_weight_decay ignored";
    ExclusionInverted Wrong "exclusion_inverted" "only excluded variables decay";
    ExclusionMatchesStart Wrong "exclusion_matches_start" "patterns matched at the start of a name only";
    ExclusionFirstPattern Wrong "exclusion_first_pattern" "only the first pattern excludes";

    // Structure.
    SignFlipped Wrong "sign_flipped" "x + α·û";
    MissingIsZero Wrong "missing_is_zero" "a missing gradient counts as a zero gradient";
    AllMissingAccepted Wrong "all_missing_accepted" "a step without any gradient is accepted";
    TailDropped Wrong "tail_dropped" "elements after the last full block of 16 not updated";
    LastRowDropped Wrong "last_row_dropped" "the last row left out of c";
    SparseMergedFirst Wrong "sparse_merged_first" "duplicate rows summed before clipping";
    SparseRowsUntouched Wrong "sparse_rows_untouched" "rows outside the indices not updated";
    SparseLastWins Wrong "sparse_last_wins" "the last of duplicate rows wins";
    SparseAveraged Wrong "sparse_averaged" "duplicate rows averaged";
    SparseNegativeDroppedFirst Wrong "sparse_negative_dropped_first" "rows of negative indices dropped before clipping";
    SparseNegativeWraps Wrong "sparse_negative_wraps" "negative indices count from the end";
    SparseOutOfRangeDropped Wrong "sparse_out_of_range_dropped" "indices beyond the first axis dropped without an error";
    ConstraintIgnored Wrong "constraint_ignored" "constraints ignored";
    ConstraintBeforeEma Wrong "constraint_before_ema" "the constraint before the average";
    ConstraintBeforeUpdate Wrong "constraint_before_update" "the constraint before the update";
    ConstraintWithoutGradient Wrong "constraint_without_gradient" "constraints although the gradient is missing";
    ConstraintMinimumOnly Wrong "constraint_minimum_only" "the upper end of a range ignored";
    ConstraintMakesNanZero Wrong "constraint_makes_nan_zero" "a non-negative NaN is 0, as Rust's max(x, 0)";

    // Numbers.
    RateNotThroughFloat32 Wrong "rate_not_through_float32" "the learning rate not rounded to float32 in float64";
    Epsilon2NotThroughFloat32 Wrong "epsilon_2_not_through_float32" "epsilon_2 not rounded to float32 in float64";
    DecayNotThroughFloat32 Wrong "decay_not_through_float32" "weight_decay not rounded to float32 in float64";
    Beta2ThroughFloat32 Wrong "beta_2_through_float32" "β₂ computed in float32 for float64";
    MomentumThroughFloat32 Wrong "momentum_through_float32" "ema_momentum rounded to float32 for float64";
    CapThroughFloat32 Wrong "cap_through_float32" "1/√t computed in float32 for float64";
    Float64InFloat32 Wrong "float64_in_float32" "float64 variables computed in float32";
    SumsOneByOne Wrong "sums_one_by_one" "long sums one by one in the element type, which loses digits";
    RsqrtOf12Bits Wrong "rsqrt_of_12_bits" "the processor's estimate of 1/√v, 12 bits";
    SubnormalsKept Wrong "subnormals_kept" "subnormal numbers not flushed to 0";
    NanSwallowed Wrong "nan_swallowed" "max and min drop NaN, as Rust's do";
    HalfEpsilon1Floor Wrong "half_epsilon_1_floor" "an epsilon_1 that float16 cannot hold raised to its smallest number";

    // Correct, in another order.
    ColumnNormalised Harmless "column_normalised" "c divided by mean(c), not r by mean(r)";
    DecayFactorFirst Harmless "decay_factor_first" "x · (wd · lr) for (x · wd) · lr";
    DividesByRoot Harmless "divides_by_root" "g/√v for g · rsqrt(v)";
    WideArithmetic Harmless "wide_arithmetic" "float32 in float64 throughout, rounded when stored";
    MeanByReciprocal Harmless "mean_by_reciprocal" "sum · (1/n) for sum/n";
    SumsBackwards Harmless "sums_backwards" "sums of blocks of 64 from the end, in the element type";
    StepDividedFirst Harmless "step_divided_first" "(α/d) · u for α · (u/d)";
    EpsilonAfterMean Harmless "epsilon_after_mean" "mean(g²) + epsilon_1 for mean(g² + epsilon_1)";
    ClipByFactor Harmless "clip_by_factor" "g · min(1, c/norm) for g · c / max(norm, c)";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found() {
        for mistake in Mistake::ALL {
            assert_eq!(Mistake::from_id(mistake.id()), Some(*mistake));
        }
        assert_eq!(Mistake::from_id("perfect"), None);
    }

    #[test]
    fn the_published_table_has_a_row_for_each() {
        let page = include_str!("../MISTAKES.md");
        let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
        assert_eq!(rows.len(), Mistake::wrong().count() + Mistake::harmless().count());
        for mistake in Mistake::wrong().chain(Mistake::harmless()) {
            let (id, what) = (mistake.id(), mistake.what());
            let row = rows.iter().find(|row| row.starts_with(&format!("{id}` |")));
            assert!(row.is_some_and(|row| row.contains(what)), "{id}");
        }
    }
}
