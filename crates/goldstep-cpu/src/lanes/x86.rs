//! Lanes in the registers of AVX2 (256 bits) and AVX-512 (512 bits).
//!
//! Values of these types exist only below [`crate::isa::Isa::run`], inside a function compiled for
//! the instruction set that detection has found. That is what every `SAFETY` here refers to.
#![expect(unsafe_code, reason = "vector intrinsics and loads through pointers")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{LANES, Lanes, Memory, Routine};

macro_rules! detected {
    ($call:expr) => {
        // SAFETY: the kernel runs below `Isa::run`, which holds the proof that this processor has
        // the instruction; a pointer among the arguments comes from a reference to as many
        // elements as are read or written.
        unsafe { $call }
    };
}

/// `Lanes` for registers of `$width` elements; `$register` lists their indices.
macro_rules! lanes {
    (
        $(#[$doc:meta])* $name:ident, $real:ty, $kind:ty, $call:ident,
        [$($register:literal),+] of $width:literal,
        $splat:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident $div:ident
        $sqrt:ident $min:ident $max:ident, $plus:ident $minus:ident, $flush:ident $below:ident $select:ident $merge:ident $permute:ident,
        $pair:ident $four:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name([$kind; LANES / $width]);

        impl Lanes for $name {
            type Real = $real;

            #[inline(always)]
            fn call<P: Routine<Self>>(part: P) -> P::Output {
                detected!($call(part))
            }
            #[inline(always)]
            fn fetch<T>(target: *const T) {
                detected!(_mm_prefetch::<_MM_HINT_T1>(target.cast()));
            }
            #[inline(always)]
            fn fetch_near<T>(target: *const T) {
                detected!(_mm_prefetch::<_MM_HINT_T0>(target.cast()));
            }
            #[inline(always)]
            fn splat(value: $real) -> Self {
                let register = detected!($splat(value));
                Self([register; LANES / $width])
            }
            #[inline(always)]
            fn load(source: &[$real; LANES]) -> Self {
                Self([$(detected!($load(source[$register * $width..].as_ptr()))),+])
            }
            #[inline(always)]
            fn store(self, target: &mut [$real; LANES]) {
                $(detected!($store(target[$register * $width..].as_mut_ptr(), self.0[$register]));)+
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self([$(detected!($add(self.0[$register], other.0[$register]))),+])
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Self([$(detected!($sub(self.0[$register], other.0[$register]))),+])
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                Self([$(detected!($mul(self.0[$register], other.0[$register]))),+])
            }
            #[inline(always)]
            fn plus_product(self, a: Self, b: Self) -> Self {
                Self([$(detected!($plus(
                    self.0[$register], a.0[$register], b.0[$register]
                ))),+])
            }
            #[inline(always)]
            fn minus_product(self, a: Self, b: Self) -> Self {
                Self([$(detected!($minus(
                    self.0[$register], a.0[$register], b.0[$register]
                ))),+])
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                Self([$(detected!($div(self.0[$register], other.0[$register]))),+])
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                Self([$(detected!($sqrt(self.0[$register]))),+])
            }
            #[inline(always)]
            fn lesser(self, other: Self) -> Self {
                Self([$(detected!($min(self.0[$register], other.0[$register]))),+])
            }
            #[inline(always)]
            fn greater(self, other: Self) -> Self {
                Self([$(detected!($max(self.0[$register], other.0[$register]))),+])
            }
            #[inline(always)]
            fn flush(self) -> Self {
                Self([$(detected!($flush(self.0[$register]))),+])
            }
            #[inline(always)]
            fn is_below(self, other: Self) -> bool {
                $(detected!($below(self.0[$register], other.0[$register])))&&+
            }
            #[inline(always)]
            fn select_zero(self, if_zero: Self, otherwise: Self) -> Self {
                Self([$(detected!($select(
                    self.0[$register], if_zero.0[$register], otherwise.0[$register]
                ))),+])
            }
            #[inline(always)]
            fn merge(self, other: Self, index: &[u32; LANES]) -> Self {
                Self(detected!($merge(self.0, other.0, index)))
            }
            #[inline(always)]
            fn permute(self, index: &[u32; LANES]) -> Self {
                Self(detected!($permute(self.0, index)))
            }
            #[inline(always)]
            fn pair_sums(self, other: Self) -> Self {
                Self([$(detected!($pair(self.0[$register], other.0[$register]))),+])
            }
            #[inline(always)]
            fn four_sums(self, other: Self) -> Self {
                Self(detected!($four(self.0, other.0)))
            }
        }
    };
}

lanes!(
    /// Sixteen f32 in one 512-bit register.
    Avx512F32, f32, __m512, call_512, [0] of 16,
    _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps _mm512_mul_ps
    _mm512_div_ps _mm512_sqrt_ps _mm512_min_ps _mm512_max_ps, plus_512_ps minus_512_ps, flush_512_ps below_512_ps select_512_ps merge_512_ps permute_512_ps,
    pair_512_ps four_512_ps
);
lanes!(
    /// Sixteen f64 in two 512-bit registers.
    Avx512F64, f64, __m512d, call_512, [0, 1] of 8,
    _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_add_pd _mm512_sub_pd _mm512_mul_pd
    _mm512_div_pd _mm512_sqrt_pd _mm512_min_pd _mm512_max_pd, plus_512_pd minus_512_pd, flush_512_pd below_512_pd select_512_pd merge_512_pd permute_512_pd,
    pair_512_pd four_512_pd
);
lanes!(
    /// Sixteen f32 in two 256-bit registers.
    Avx2F32, f32, __m256, call_256, [0, 1] of 8,
    _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps _mm256_mul_ps
    _mm256_div_ps _mm256_sqrt_ps _mm256_min_ps _mm256_max_ps, plus_256_ps minus_256_ps, flush_256_ps below_256_ps select_256_ps merge_256_ps permute_256_ps,
    pair_256_ps four_256_ps
);
lanes!(
    /// Sixteen f64 in four 256-bit registers.
    Avx2F64, f64, __m256d, call_256, [0, 1, 2, 3] of 4,
    _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_add_pd _mm256_sub_pd _mm256_mul_pd
    _mm256_div_pd _mm256_sqrt_pd _mm256_min_pd _mm256_max_pd, plus_256_pd minus_256_pd, flush_256_pd below_256_pd select_256_pd merge_256_pd permute_256_pd,
    pair_256_pd four_256_pd
);

#[inline(never)]
#[target_feature(enable = "avx512f")]
fn call_512<V, P: Routine<V>>(part: P) -> P::Output {
    part.run()
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn call_256<V, P: Routine<V>>(part: P) -> P::Output {
    part.run()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn plus_512_ps(x: __m512, a: __m512, b: __m512) -> __m512 {
    _mm512_fmadd_ps(a, b, x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn minus_512_ps(x: __m512, a: __m512, b: __m512) -> __m512 {
    _mm512_fnmadd_ps(a, b, x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn plus_512_pd(x: __m512d, a: __m512d, b: __m512d) -> __m512d {
    _mm512_add_pd(x, _mm512_mul_pd(a, b))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn minus_512_pd(x: __m512d, a: __m512d, b: __m512d) -> __m512d {
    _mm512_sub_pd(x, _mm512_mul_pd(a, b))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn plus_256_ps(x: __m256, a: __m256, b: __m256) -> __m256 {
    _mm256_fmadd_ps(a, b, x)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn minus_256_ps(x: __m256, a: __m256, b: __m256) -> __m256 {
    _mm256_fnmadd_ps(a, b, x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn plus_256_pd(x: __m256d, a: __m256d, b: __m256d) -> __m256d {
    _mm256_add_pd(x, _mm256_mul_pd(a, b))
}

#[inline]
#[target_feature(enable = "avx2")]
fn minus_256_pd(x: __m256d, a: __m256d, b: __m256d) -> __m256d {
    _mm256_sub_pd(x, _mm256_mul_pd(a, b))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn flush_512_ps(x: __m512) -> __m512 {
    let keep =
        _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(x), _mm512_set1_ps(f32::MIN_POSITIVE));
    _mm512_maskz_mov_ps(keep, x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn flush_512_pd(x: __m512d) -> __m512d {
    let keep =
        _mm512_cmp_pd_mask::<_CMP_NLT_UQ>(_mm512_abs_pd(x), _mm512_set1_pd(f64::MIN_POSITIVE));
    _mm512_maskz_mov_pd(keep, x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn flush_256_ps(x: __m256) -> __m256 {
    let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
    let keep = _mm256_cmp_ps::<_CMP_NLT_UQ>(magnitude, _mm256_set1_ps(f32::MIN_POSITIVE));
    _mm256_and_ps(keep, x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn flush_256_pd(x: __m256d) -> __m256d {
    let magnitude = _mm256_andnot_pd(_mm256_set1_pd(-0.0), x);
    let keep = _mm256_cmp_pd::<_CMP_NLT_UQ>(magnitude, _mm256_set1_pd(f64::MIN_POSITIVE));
    _mm256_and_pd(keep, x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn below_512_ps(a: __m512, b: __m512) -> bool {
    _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) == __mmask16::MAX
}

#[inline]
#[target_feature(enable = "avx512f")]
fn below_512_pd(a: __m512d, b: __m512d) -> bool {
    _mm512_cmp_pd_mask::<_CMP_LT_OQ>(a, b) == __mmask8::MAX
}

#[inline]
#[target_feature(enable = "avx2")]
fn below_256_ps(a: __m256, b: __m256) -> bool {
    _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) == 0xFF
}

#[inline]
#[target_feature(enable = "avx2")]
fn below_256_pd(a: __m256d, b: __m256d) -> bool {
    _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_LT_OQ>(a, b)) == 0xF
}

#[inline]
#[target_feature(enable = "avx512f")]
fn select_512_ps(x: __m512, if_zero: __m512, otherwise: __m512) -> __m512 {
    let is_zero = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(x, _mm512_setzero_ps());
    _mm512_mask_mov_ps(otherwise, is_zero, if_zero)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn select_512_pd(x: __m512d, if_zero: __m512d, otherwise: __m512d) -> __m512d {
    let is_zero = _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(x, _mm512_setzero_pd());
    _mm512_mask_mov_pd(otherwise, is_zero, if_zero)
}

#[inline]
#[target_feature(enable = "avx2")]
fn select_256_ps(x: __m256, if_zero: __m256, otherwise: __m256) -> __m256 {
    let is_zero = _mm256_cmp_ps::<_CMP_EQ_OQ>(x, _mm256_setzero_ps());
    _mm256_blendv_ps(otherwise, if_zero, is_zero)
}

#[inline]
#[target_feature(enable = "avx2")]
fn select_256_pd(x: __m256d, if_zero: __m256d, otherwise: __m256d) -> __m256d {
    let is_zero = _mm256_cmp_pd::<_CMP_EQ_OQ>(x, _mm256_setzero_pd());
    _mm256_blendv_pd(otherwise, if_zero, is_zero)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn merge_512_ps(a: [__m512; 1], b: [__m512; 1], index: &[u32; LANES]) -> [__m512; 1] {
    let index = detected!(_mm512_loadu_si512(index.as_ptr().cast()));
    [_mm512_permutex2var_ps(a[0], index, b[0])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn merge_512_pd(a: [__m512d; 2], b: [__m512d; 2], index: &[u32; LANES]) -> [__m512d; 2] {
    let mut merged = a;
    for (half, merged) in index.as_chunks::<8>().0.iter().zip(&mut merged) {
        let index = detected!(_mm256_loadu_si256(half.as_ptr().cast()));
        let index = _mm512_cvtepu32_epi64(index);
        let of_b = _mm512_test_epi64_mask(index, _mm512_set1_epi64(16));
        let (a, b) =
            (_mm512_permutex2var_pd(a[0], index, a[1]), _mm512_permutex2var_pd(b[0], index, b[1]));
        *merged = _mm512_mask_mov_pd(a, of_b, b);
    }
    merged
}

#[inline]
#[target_feature(enable = "avx2")]
fn merge_256_ps(a: [__m256; 2], b: [__m256; 2], index: &[u32; LANES]) -> [__m256; 2] {
    let mut merged = a;
    for (half, merged) in index.as_chunks::<8>().0.iter().zip(&mut merged) {
        let index = detected!(_mm256_loadu_si256(half.as_ptr().cast()));
        // The sign bit, which a blend looks at, of the second register and of the second value.
        let second = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
        let of_b = _mm256_castsi256_ps(_mm256_slli_epi32::<27>(index));
        let pick = |v: [__m256; 2]| {
            let low = _mm256_permutevar8x32_ps(v[0], index);
            _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(v[1], index), second)
        };
        *merged = _mm256_blendv_ps(pick(a), pick(b), of_b);
    }
    merged
}

#[inline]
#[target_feature(enable = "avx2")]
fn merge_256_pd(a: [__m256d; 4], b: [__m256d; 4], index: &[u32; LANES]) -> [__m256d; 4] {
    let mut values = [0.0; 2 * LANES];
    for (register, values) in a.into_iter().chain(b).zip(values.as_chunks_mut::<4>().0) {
        detected!(_mm256_storeu_pd(values.as_mut_ptr(), register));
    }
    let mut merged = a;
    for (four, merged) in index.as_chunks::<4>().0.iter().zip(&mut merged) {
        let four = four.map(|at| values[at as usize % (2 * LANES)]);
        *merged = detected!(_mm256_loadu_pd(four.as_ptr()));
    }
    merged
}

#[inline]
#[target_feature(enable = "avx512f")]
fn permute_512_ps(x: [__m512; 1], index: &[u32; LANES]) -> [__m512; 1] {
    let index = detected!(_mm512_loadu_si512(index.as_ptr().cast()));
    [_mm512_permutexvar_ps(index, x[0])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn permute_512_pd(x: [__m512d; 2], index: &[u32; LANES]) -> [__m512d; 2] {
    let mut permuted = x;
    for (half, permuted) in index.as_chunks::<8>().0.iter().zip(&mut permuted) {
        let index = detected!(_mm256_loadu_si256(half.as_ptr().cast()));
        *permuted = _mm512_permutex2var_pd(x[0], _mm512_cvtepu32_epi64(index), x[1]);
    }
    permuted
}

#[inline]
#[target_feature(enable = "avx2")]
fn permute_256_ps(x: [__m256; 2], index: &[u32; LANES]) -> [__m256; 2] {
    let mut permuted = x;
    for (half, permuted) in index.as_chunks::<8>().0.iter().zip(&mut permuted) {
        let index = detected!(_mm256_loadu_si256(half.as_ptr().cast()));
        // The sign bit, which a blend looks at, of the second register.
        let second = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
        let low = _mm256_permutevar8x32_ps(x[0], index);
        *permuted = _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(x[1], index), second);
    }
    permuted
}

#[inline]
#[target_feature(enable = "avx2")]
fn permute_256_pd(x: [__m256d; 4], index: &[u32; LANES]) -> [__m256d; 4] {
    merge_256_pd(x, x, index)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pair_512_ps(a: __m512, b: __m512) -> __m512 {
    _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xDD>(a, b))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pair_512_pd(a: __m512d, b: __m512d) -> __m512d {
    let sums = _mm512_add_pd(_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
    _mm512_permutex_pd::<0xD8>(sums)
}

#[inline]
#[target_feature(enable = "avx2")]
fn pair_256_ps(a: __m256, b: __m256) -> __m256 {
    _mm256_add_ps(_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xDD>(a, b))
}

#[inline]
#[target_feature(enable = "avx2")]
fn pair_256_pd(a: __m256d, b: __m256d) -> __m256d {
    let sums = _mm256_add_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
    _mm256_permute4x64_pd::<0xD8>(sums)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn four_512_ps(a: [__m512; 1], b: [__m512; 1]) -> [__m512; 1] {
    let even = _mm512_shuffle_f32x4::<0x88>(a[0], b[0]);
    [_mm512_add_ps(even, _mm512_shuffle_f32x4::<0xDD>(a[0], b[0]))]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn four_512_pd(a: [__m512d; 2], b: [__m512d; 2]) -> [__m512d; 2] {
    [a, b].map(|[x, y]| {
        let even = _mm512_shuffle_f64x2::<0x44>(x, y);
        _mm512_add_pd(even, _mm512_shuffle_f64x2::<0xEE>(x, y))
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn four_256_ps(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
    [a, b].map(|[x, y]| {
        let even = _mm256_permute2f128_ps::<0x20>(x, y);
        _mm256_add_ps(even, _mm256_permute2f128_ps::<0x31>(x, y))
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn four_256_pd(a: [__m256d; 4], b: [__m256d; 4]) -> [__m256d; 4] {
    let sum = |x: [__m256d; 4], i: usize| _mm256_add_pd(x[i], x[i + 1]);
    [sum(a, 0), sum(a, 2), sum(b, 0), sum(b, 2)]
}

/// Elements of the register `index` that lie inside a head of `length` elements.
#[inline(always)]
const fn count_in(length: usize, index: usize, width: usize) -> usize {
    let rest = length.saturating_sub(index * width);
    if rest < width { rest } else { width }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "as many bits as the mask has")]
fn mask_16(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "as many bits as the mask has")]
fn mask_8(count: usize) -> __mmask8 {
    ((1_u32 << count) - 1) as __mmask8
}

impl Memory<f32> for Avx512F32 {
    #[inline(always)]
    fn read(source: &[f32; LANES]) -> Self {
        Self::load(source)
    }
    #[inline(always)]
    fn write(self, target: &mut [f32; LANES]) -> Self {
        self.store(target);
        self
    }
    #[inline(always)]
    fn read_head(source: &[f32]) -> Self {
        let mask = mask_16(source.len().min(LANES));
        Self([detected!(_mm512_maskz_loadu_ps(mask, source.as_ptr()))])
    }
    #[inline(always)]
    fn write_head(self, target: &mut [f32]) {
        let mask = mask_16(target.len().min(LANES));
        detected!(_mm512_mask_storeu_ps(target.as_mut_ptr(), mask, self.0[0]));
    }
}

impl Memory<f64> for Avx512F64 {
    #[inline(always)]
    fn read(source: &[f64; LANES]) -> Self {
        Self::load(source)
    }
    #[inline(always)]
    fn write(self, target: &mut [f64; LANES]) -> Self {
        self.store(target);
        self
    }
    #[inline(always)]
    fn read_head(source: &[f64]) -> Self {
        Self([0, 1].map(|index| {
            let mask = mask_8(count_in(source.len(), index, 8));
            detected!(_mm512_maskz_loadu_pd(mask, source.as_ptr().wrapping_add(8 * index)))
        }))
    }
    #[inline(always)]
    fn write_head(self, target: &mut [f64]) {
        let length = target.len();
        for (index, register) in self.0.into_iter().enumerate() {
            let mask = mask_8(count_in(length, index, 8));
            let at = target.as_mut_ptr().wrapping_add(8 * index);
            detected!(_mm512_mask_storeu_pd(at, mask, register));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most 8")]
fn mask_256_32(count: usize) -> __m256i {
    let lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lane)
}

#[inline]
#[target_feature(enable = "avx2")]
#[expect(clippy::cast_possible_wrap, reason = "at most 4")]
fn mask_256_64(count: usize) -> __m256i {
    let lane = _mm256_set_epi64x(3, 2, 1, 0);
    _mm256_cmpgt_epi64(_mm256_set1_epi64x(count as i64), lane)
}

impl Memory<f32> for Avx2F32 {
    #[inline(always)]
    fn read(source: &[f32; LANES]) -> Self {
        Self::load(source)
    }
    #[inline(always)]
    fn write(self, target: &mut [f32; LANES]) -> Self {
        self.store(target);
        self
    }
    #[inline(always)]
    fn read_head(source: &[f32]) -> Self {
        let part = |index: usize| {
            let mask = detected!(mask_256_32(count_in(source.len(), index, 8)));
            detected!(_mm256_maskload_ps(source.as_ptr().wrapping_add(8 * index), mask))
        };
        Self([part(0), part(1)])
    }
    #[inline(always)]
    fn write_head(self, target: &mut [f32]) {
        let length = target.len();
        for (index, register) in self.0.into_iter().enumerate() {
            let mask = detected!(mask_256_32(count_in(length, index, 8)));
            let at = target.as_mut_ptr().wrapping_add(8 * index);
            detected!(_mm256_maskstore_ps(at, mask, register));
        }
    }
}

impl Memory<f64> for Avx2F64 {
    #[inline(always)]
    fn read(source: &[f64; LANES]) -> Self {
        Self::load(source)
    }
    #[inline(always)]
    fn write(self, target: &mut [f64; LANES]) -> Self {
        self.store(target);
        self
    }
    #[inline(always)]
    fn read_head(source: &[f64]) -> Self {
        let part = |index: usize| {
            let mask = detected!(mask_256_64(count_in(source.len(), index, 4)));
            detected!(_mm256_maskload_pd(source.as_ptr().wrapping_add(4 * index), mask))
        };
        Self([part(0), part(1), part(2), part(3)])
    }
    #[inline(always)]
    fn write_head(self, target: &mut [f64]) {
        let length = target.len();
        for (index, register) in self.0.into_iter().enumerate() {
            let mask = detected!(mask_256_64(count_in(length, index, 4)));
            let at = target.as_mut_ptr().wrapping_add(4 * index);
            detected!(_mm256_maskstore_pd(at, mask, register));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bf16_to_512(x: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
}

/// Rounds to the nearest bf16, ties to even; a NaN stays a quiet NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn bf16_from_512(x: __m512) -> __m256i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let half_less_one = _mm512_set1_epi32(0x7fff);
    let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, half_less_one));
    let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
    let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let chosen = _mm512_mask_mov_epi32(rounded, is_nan, quiet);
    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(chosen))
}

#[inline]
#[target_feature(enable = "avx2")]
fn bf16_to_256(x: __m128i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x)))
}

/// Rounds to the nearest bf16, ties to even; a NaN stays a quiet NaN.
#[inline]
#[target_feature(enable = "avx2")]
fn bf16_from_256(x: __m256) -> __m128i {
    let bits = _mm256_castps_si256(x);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
    let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    let chosen = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, is_nan));
    let packed = _mm256_packus_epi32(chosen, chosen);
    _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0xD8>(packed))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn f16_from_512(x: __m512) -> __m256i {
    _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn f16_from_256(x: __m256) -> __m128i {
    _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(x)
}

/// Half precision in memory: a head goes through an array of zeros.
macro_rules! halves {
    ($name:ident, $element:ty, [$($register:literal),+] of $width:literal, $half:ty,
     $load:ident $store:ident $to:ident $from:ident) => {
        impl Memory<$element> for $name {
            #[inline(always)]
            fn read(source: &[$element; LANES]) -> Self {
                Self([$({
                    let at = source[$register * $width..].as_ptr().cast::<$half>();
                    let bits = detected!($load(at));
                    detected!($to(bits))
                }),+])
            }
            #[inline(always)]
            fn write(self, target: &mut [$element; LANES]) -> Self {
                Self([$({
                    let bits = detected!($from(self.0[$register]));
                    let at = target[$register * $width..].as_mut_ptr().cast::<$half>();
                    detected!($store(at, bits));
                    detected!($to(bits))
                }),+])
            }
            #[inline(always)]
            fn read_head(source: &[$element]) -> Self {
                let mut lanes = [<$element>::from_bits(0); LANES];
                for (lane, &element) in lanes.iter_mut().zip(source) {
                    *lane = element;
                }
                Self::read(&lanes)
            }
            #[inline(always)]
            fn write_head(self, target: &mut [$element]) {
                let mut lanes = [<$element>::from_bits(0); LANES];
                self.write(&mut lanes);
                for (element, lane) in target.iter_mut().zip(lanes) {
                    *element = lane;
                }
            }
        }
    };
}

halves!(Avx512F32, bf16, [0] of 16, __m256i,
    _mm256_loadu_si256 _mm256_storeu_si256 bf16_to_512 bf16_from_512);
halves!(Avx512F32, f16, [0] of 16, __m256i,
    _mm256_loadu_si256 _mm256_storeu_si256 _mm512_cvtph_ps f16_from_512);
halves!(Avx2F32, bf16, [0, 1] of 8, __m128i,
    _mm_loadu_si128 _mm_storeu_si128 bf16_to_256 bf16_from_256);
halves!(Avx2F32, f16, [0, 1] of 8, __m128i,
    _mm_loadu_si128 _mm_storeu_si128 _mm256_cvtph_ps f16_from_256);
