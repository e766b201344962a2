//! The second pass over a matrix of few columns, whose rows do not fill vectors.
//!
//! It goes through the elements as they lie in memory, without regard to rows. Where several rows
//! fill a vector and vectors come in fours, and where two or four vectors fill a row, the factors are
//! put together in registers; else `s_i·t_j` is first laid out as the elements are.

use super::narrow::{AHEAD, COLUMNS_OF, NARROW, ROWS_OF};
use super::squares::{GROUP, SUMS, Squares};
use super::{Clip, Decay, Line, read_up_to, write_up_to};
use crate::lanes::{LANES, Lanes, Memory, Routine};
use crate::real::{CpuElement, Real};
use crate::tile::Tile;

/// The scales of a tile's rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a, R> {
    /// `s_i`, from the row at `first_row` on.
    pub(super) row_scale: &'a [Line<R>],
    /// Where the tile's first row stands in `row_scale`, a multiple of sixteen.
    pub(super) first_row: usize,
    /// `t_j`, padded to whole lines.
    pub(super) column_scale: &'a [Line<R>],
}

/// Rows of a part: a multiple of the elements of a group of sums.
pub(super) const ROWS: usize = SUMS * LANES;

/// Writes `s_i·t_j` of `rows` rows of `n` columns, the first of which stands at `first` in the row
/// scales. Each row overwrites what the last vector of the row before has written too much.
struct LayOut<'a, R, const K: usize> {
    layout: &'a mut [R],
    n: usize,
    rows: usize,
    factors: Factors<'a, R>,
    first: usize,
}

impl<V: Lanes, const K: usize> Routine<V> for LayOut<'_, V::Real, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { layout, n, rows, factors, first } = self;
        let mut columns = [V::zero(); K];
        for (column, line) in columns.iter_mut().zip(factors.column_scale) {
            *column = V::load(&line.0);
        }
        for i in 0..rows {
            let scale = V::splat(Line::flatten(factors.row_scale)[first + i]);
            let (vectors, _) = layout[i * n..i * n + K * LANES].as_chunks_mut::<LANES>();
            for k in 0..K {
                scale.mul(columns[k]).store(&mut vectors[k]);
            }
        }
    }
}

/// The same for at most sixteen columns, of which several rows fill a vector. `first` is a multiple
/// of sixteen.
struct LayOutPacked<'a, V: Lanes> {
    layout: &'a mut [V::Real],
    columns: &'a [V; LANES],
    n: usize,
    factors: Factors<'a, V::Real>,
    first: usize,
}

impl<V: Lanes> Routine<V> for LayOutPacked<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { layout, columns, n, factors, first } = self;
        let (lines, _) = layout.as_chunks_mut::<LANES>();
        let row_lines = &factors.row_scale[first / LANES..];
        for (lines, rows) in lines.chunks_exact_mut(n).zip(row_lines).take(ROWS / LANES) {
            let rows = V::load(&rows.0);
            for ((line, &column), places) in lines.iter_mut().zip(columns).zip(&ROWS_OF[n]) {
                rows.permute(places).mul(column).store(line);
            }
        }
    }
}

/// Updates a tile of few columns and returns the sum of its new squares.
#[inline(always)]
pub(super) fn narrow<T: CpuElement, V, C, D>(
    parameter: &mut [T],
    gradient: Tile<'_, T>,
    clip: C,
    decay: D,
    factors: Factors<'_, T::Real>,
) -> f64
where
    V: Lanes<Real = T::Real> + Memory<T>,
    C: Clip<T::Real>,
    D: Decay<T::Real>,
{
    let n = gradient.columns();
    let lines = n.div_ceil(LANES);
    let mut columns = [V::zero(); LANES];
    if lines == 1 {
        let scale = V::load(&factors.column_scale[0].0);
        for (column, places) in columns.iter_mut().zip(&COLUMNS_OF[n]).take(n) {
            *column = scale.permute(places);
        }
    }
    let mut rule = Rule { clip, decay, squares: Squares::<V>::new() };
    let rows = gradient.rows();
    // Rows whose factors are put together in registers.
    let ready = match n {
        4 | 8 | 12 | 16 => rows / ROWS * ROWS,
        32 => rows / 2 * 2,
        64 => rows,
        _ => 0,
    };
    let (p, p_rest) = parameter.split_at_mut(ready * n);
    let (g, g_rest) = gradient.elements().split_at(ready * n);
    let mut first = factors.first_row;
    for (p, g) in p.chunks_mut(ROWS * n).zip(g.chunks(ROWS * n)) {
        match n {
            32 => rule.lines::<T, 2>(p, g, factors, first),
            64 => rule.lines::<T, 4>(p, g, factors, first),
            _ => rule.packed(p, g, &columns[..n], &factors.row_scale[first / LANES..]),
        }
        first += p.len() / n;
    }
    if !p_rest.is_empty() {
        let mut layout = [T::Real::ZERO; ROWS * NARROW + NARROW];
        let layout = &mut layout;
        for (p, g) in p_rest.chunks_mut(ROWS * n).zip(g_rest.chunks(ROWS * n)) {
            let rows = p.len() / n;
            match lines {
                1 => V::call(LayOutPacked { layout, columns: &columns, n, factors, first }),
                2 => V::call(LayOut::<_, 2> { layout, n, rows, factors, first }),
                _ => V::call(LayOut::<_, 4> { layout, n, rows, factors, first }),
            }
            rule.laid_out(p, g, layout);
            first += rows;
        }
    }
    rule.squares.total()
}

/// `p −= g·s_i·t_j`, and the squares of what was written.
struct Rule<V, C, D> {
    clip: C,
    decay: D,
    squares: Squares<V>,
}

impl<V: Lanes, C: Clip<V::Real>, D: Decay<V::Real>> Rule<V, C, D> {
    /// A part of which every sixteen rows of `columns.len()` elements lie in as many vectors, a
    /// multiple of four.
    #[inline(always)]
    fn packed<T>(&mut self, p: &mut [T], g: &[T], columns: &[V], row_scale: &[Line<V::Real>])
    where
        V: Memory<T>,
    {
        let n = columns.len();
        let (columns, _) = columns.as_chunks::<SUMS>();
        let (places, _) = ROWS_OF[n][..n].as_chunks::<SUMS>();
        let sixteens = p.chunks_exact_mut(LANES * n).zip(g.chunks_exact(LANES * n));
        for ((p, g), rows) in sixteens.zip(row_scale) {
            let rows = V::load(&rows.0);
            let (p, _) = p.as_chunks_mut::<LANES>().0.as_chunks_mut::<SUMS>();
            let (g, _) = g.as_chunks::<LANES>().0.as_chunks::<SUMS>();
            for (((p, g), columns), places) in p.iter_mut().zip(g).zip(columns).zip(places) {
                let mut factors = *columns;
                for k in 0..SUMS {
                    factors[k] = rows.permute(&places[k]).mul(columns[k]);
                }
                self.group(p, g, factors);
            }
        }
        self.squares.pass(ROWS * n / GROUP);
    }

    /// A part of rows of `K` vectors each, 2 or 4, the first of which stands at `first` in the row
    /// scales: whole groups.
    #[inline(always)]
    fn lines<T, const K: usize>(
        &mut self,
        p: &mut [T],
        g: &[T],
        factors: Factors<'_, V::Real>,
        first: usize,
    ) where
        V: Memory<T>,
    {
        let mut columns = [V::zero(); SUMS];
        for (k, column) in columns.iter_mut().enumerate() {
            *column = V::load(&factors.column_scale[k % K].0);
        }
        let (p, _) = p.as_chunks_mut::<LANES>().0.as_chunks_mut::<SUMS>();
        let (g, _) = g.as_chunks::<LANES>().0.as_chunks::<SUMS>();
        let rows_per_group = SUMS / K;
        let rows = Line::flatten(factors.row_scale)[first..].chunks_exact(rows_per_group);
        let groups = p.len();
        for ((p, g), rows) in p.iter_mut().zip(g).zip(rows) {
            let mut factors = columns;
            for k in 0..SUMS {
                factors[k] = V::splat(rows[k / K]).mul(columns[k]);
            }
            self.group(p, g, factors);
        }
        self.squares.pass(groups);
    }

    /// A part whose factors are laid out.
    #[inline(always)]
    fn laid_out<T>(&mut self, p: &mut [T], g: &[T], layout: &[V::Real])
    where
        V: Memory<T>,
    {
        let grouped = p.len() / GROUP * GROUP;
        let (p, p_rest) = p.split_at_mut(grouped);
        let (g, g_rest) = g.split_at(grouped);
        let (f, f_rest) = layout.split_at(grouped);
        let (p, _) = p.as_chunks_mut::<LANES>().0.as_chunks_mut::<SUMS>();
        let (g, _) = g.as_chunks::<LANES>().0.as_chunks::<SUMS>();
        let (f, _) = f.as_chunks::<LANES>().0.as_chunks::<SUMS>();
        for ((p, g), f) in p.iter_mut().zip(g).zip(f) {
            let mut factors = [V::zero(); SUMS];
            for k in 0..SUMS {
                factors[k] = V::load(&f[k]);
            }
            self.group(p, g, factors);
        }
        self.squares.pass(grouped / GROUP);
        let (f_rest, _) = f_rest.as_chunks::<LANES>();
        for ((p, g), f) in p_rest.chunks_mut(LANES).zip(g_rest.chunks(LANES)).zip(f_rest) {
            let (old, g) = (read_up_to::<T, V>(p), self.clip.apply(read_up_to::<T, V>(g)));
            let new = self.decay.apply(old).minus_product(g, V::load(f));
            self.squares.add_tail(write_up_to(new, p));
        }
    }

    /// Four vectors.
    #[inline(always)]
    fn group<T>(&mut self, p: &mut [[T; LANES]; SUMS], g: &[[T; LANES]; SUMS], factors: [V; SUMS])
    where
        V: Memory<T>,
    {
        for k in 0..SUMS {
            V::fetch(p[k].as_ptr().wrapping_add(AHEAD));
            V::fetch(g[k].as_ptr().wrapping_add(AHEAD));
            let (old, g) = (V::read(&p[k]), self.clip.apply(V::read(&g[k])));
            let new = self.decay.apply(old).minus_product(g, factors[k]);
            self.squares.add(k, new.write(&mut p[k]));
        }
    }
}
