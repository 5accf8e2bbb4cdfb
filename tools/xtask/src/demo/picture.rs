//! The two attention maps of a head and their difference, side by side, with the text along the axes.

use std::path::Path;

use ab_glyph::FontRef;
use anyhow::Result;
use colorous::Gradient;

use super::canvas::{Align, Canvas, Color, INK, Type};

/// Side of a map, in pixels; a whole number of them falls to each token.
const SIDE: usize = 704;
/// Room around each map for labels, in pixels.
const MARGIN: usize = 56;
/// Room above the maps for titles and below them for the colour scales, in pixels.
const BAND: usize = 150;
/// What the mask hides.
const HIDDEN: Color = [226, 226, 230];

/// Two square maps over the same bytes of text, and the weight of the second.
pub(crate) struct Maps<'a> {
    /// Says which layer and head this is.
    pub(crate) title: String,
    /// One byte for each query and key.
    pub(crate) text: &'a [u8],
    /// `P_1`, row-major `[text, text]`.
    pub(crate) signal: Vec<f64>,
    /// `P_2`, in the same order.
    pub(crate) noise: Vec<f64>,
    /// λ.
    pub(crate) lambda: f64,
}

/// Colours for the values from `low` to `high`; what lies outside has the colour of the nearer end.
struct Scale {
    gradient: Gradient,
    reversed: bool,
    low: f64,
    high: f64,
}

impl Scale {
    /// From 0 to `high`.
    fn sequential(high: f64) -> Self {
        Self {
            gradient: colorous::MAGMA,
            reversed: true,
            low: 0.0,
            high,
        }
    }

    /// From `-high` in blue through 0 in white to `high` in red.
    fn diverging(high: f64) -> Self {
        Self {
            gradient: colorous::RED_BLUE,
            reversed: true,
            low: -high,
            high,
        }
    }

    /// The label of the lower end.
    fn lowest(&self) -> String {
        let bound = if self.low < 0.0 { "≤ " } else { "" };
        format!("{bound}{}", number(self.low))
    }

    fn color(&self, value: f64) -> Color {
        let t = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.gradient
            .eval_continuous(if self.reversed { 1.0 - t } else { t })
            .as_array()
    }
}

/// One map and how to show it.
struct Panel<'a> {
    title: &'a str,
    values: &'a [f64],
    scale: Scale,
    caption: &'a str,
}

struct Fonts {
    prose: FontRef<'static>,
    code: FontRef<'static>,
}

/// Draws the maps and writes the picture to `path`.
pub(crate) fn draw(maps: &Maps<'_>, path: &Path) -> Result<()> {
    let fonts = Fonts {
        prose: FontRef::try_from_slice(dejavu::sans::regular())?,
        code: FontRef::try_from_slice(dejavu::sans_mono::regular())?,
    };
    let difference: Vec<f64> = maps
        .signal
        .iter()
        .zip(&maps.noise)
        .map(|(p1, p2)| p1 - maps.lambda * p2)
        .collect();
    let high = top(maps.signal.iter().chain(&maps.noise));
    let high_difference = top(difference.iter());
    let shared = "attention weight, the same scale for P₁ and P₂";
    let panels = [
        Panel {
            title: "P₁ = softmax(Q₁K₁ᵀ/√d)",
            values: &maps.signal,
            scale: Scale::sequential(high),
            caption: shared,
        },
        Panel {
            title: "P₂ = softmax(Q₂K₂ᵀ/√d)",
            values: &maps.noise,
            scale: Scale::sequential(high),
            caption: shared,
        },
        Panel {
            title: &format!("P₁ − λP₂, λ = {:.3}", maps.lambda),
            values: &difference,
            scale: Scale::diverging(high_difference),
            caption: "difference: red attends, blue is cancelled",
        },
    ];
    let mut canvas = Canvas::new(3 * (SIDE + 2 * MARGIN), SIDE + 2 * BAND);
    let middle = 1.5 * (SIDE + 2 * MARGIN) as f32;
    canvas.text(
        [middle, 36.0],
        Align::Center,
        &Type {
            font: &fonts.prose,
            size: 32.0,
        },
        &maps.title,
    );
    for (index, panel) in panels.iter().enumerate() {
        let left = index * (SIDE + 2 * MARGIN) + MARGIN;
        draw_panel(&mut canvas, &fonts, panel, maps.text, left);
    }
    canvas.save(path)
}

/// The value that 98 of 100 visible entries do not exceed in magnitude, so that the few large ones do not hide the rest.
fn top<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    let mut sizes: Vec<f64> = values.map(|x| x.abs()).filter(|x| *x > 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() * 98 / 100).copied().unwrap_or(1.0)
}

fn draw_panel(canvas: &mut Canvas, fonts: &Fonts, panel: &Panel<'_>, text: &[u8], left: usize) {
    let cell = SIDE / text.len();
    let side = cell * text.len();
    let middle = (left + side / 2) as f32;
    canvas.text(
        [middle, 92.0],
        Align::Center,
        &Type {
            font: &fonts.prose,
            size: 26.0,
        },
        panel.title,
    );
    canvas.fill([left - 1, BAND - 1], [side + 2, side + 2], INK);
    for (index, value) in panel.values.iter().enumerate() {
        let (query, key) = (index / text.len(), index % text.len());
        let color = if key > query {
            HIDDEN
        } else {
            panel.scale.color(*value)
        };
        canvas.fill(
            [left + key * cell, BAND + query * cell],
            [cell, cell],
            color,
        );
    }
    draw_text(canvas, fonts, text, left, cell);
    draw_scale(canvas, fonts, panel, [left, BAND + side + 70]);
}

/// The text down the left side (queries) and along the top (keys).
fn draw_text(canvas: &mut Canvas, fonts: &Fonts, text: &[u8], left: usize, cell: usize) {
    let style = Type {
        font: &fonts.code,
        size: (1.15 * cell as f32).min(20.0),
    };
    for (index, byte) in text.iter().enumerate() {
        let along = ((index as f32) + 0.5) * cell as f32;
        let glyph = visible(*byte).to_string();
        let (x, y) = (left as f32 + along, BAND as f32 + along);
        canvas.text([x, BAND as f32 - 12.0], Align::Center, &style, &glyph);
        canvas.text([left as f32 - 12.0, y], Align::Center, &style, &glyph);
    }
    let label = Type {
        font: &fonts.prose,
        size: 18.0,
    };
    let bottom = (BAND + cell * text.len() + 18) as f32;
    canvas.text(
        [left as f32, bottom],
        Align::Left,
        &label,
        "query ↓   key →   grey: hidden by the causal mask",
    );
}

/// A byte as one visible character.
fn visible(byte: u8) -> char {
    match byte {
        b' ' => '␣',
        b'\n' => '↵',
        b'!'..=b'~' => char::from(byte),
        _ => '·',
    }
}

/// The colours from the lowest to the highest value, with numbers at both ends and in the middle.
fn draw_scale(canvas: &mut Canvas, fonts: &Fonts, panel: &Panel<'_>, [left, y]: [usize; 2]) {
    let (width, height) = (320, 18);
    let Scale { low, high, .. } = panel.scale;
    canvas.fill([left - 1, y - 1], [width + 2, height + 2], INK);
    for x in 0..width {
        let value = low + (high - low) * x as f64 / (width - 1) as f64;
        canvas.fill([left + x, y], [1, height], panel.scale.color(value));
    }
    let style = Type {
        font: &fonts.prose,
        size: 18.0,
    };
    for (x, number) in [
        (0, panel.scale.lowest()),
        (width / 2, number((low + high) / 2.0)),
        (width, format!("≥ {}", number(high))),
    ] {
        canvas.text(
            [(left + x) as f32, (y + height + 14) as f32],
            Align::Center,
            &style,
            &number,
        );
    }
    canvas.text(
        [(left + width + 32) as f32, (y + height / 2) as f32],
        Align::Left,
        &style,
        panel.caption,
    );
}

/// A number as a label.
fn number(value: f64) -> String {
    format!("{value:.2}").replace('-', "−")
}
