//! A picture in memory: filled rectangles and text, written as PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use anyhow::{Context, Result};

/// Red, green, blue.
pub(crate) type Color = [u8; 3];

/// The colour of text and frames.
pub(crate) const INK: Color = [40, 40, 48];

/// Where a text lies relative to its point.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    /// Begins there.
    Left,
    /// Has its middle there.
    Center,
}

/// A typeface and a size, in pixels from the highest ascender to the lowest descender.
pub(crate) struct Type<'a> {
    pub(crate) font: &'a FontRef<'static>,
    pub(crate) size: f32,
}

impl Type<'_> {
    /// The width of a line of text, in pixels.
    fn width(&self, text: &str) -> f32 {
        let font = self.font.as_scaled(PxScale::from(self.size));
        text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
    }
}

/// Pixels, row by row from the top left corner.
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
}

impl Canvas {
    /// A white picture.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![[255; 3]; width * height],
        }
    }

    /// Fills a rectangle, as far as it lies in the picture.
    pub(crate) fn fill(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2], color: Color) {
        for row in y..(y + height).min(self.height) {
            let right = (x + width).min(self.width);
            if x < right {
                self.pixels[row * self.width..][x..right].fill(color);
            }
        }
    }

    /// A line of text, its vertical middle at the height of the point.
    pub(crate) fn text(&mut self, at: [f32; 2], align: Align, style: &Type<'_>, text: &str) {
        let font = style.font.as_scaled(PxScale::from(style.size));
        let shift = match align {
            Align::Left => 0.0,
            Align::Center => style.width(text) / 2.0,
        };
        let baseline = at[1] + (font.ascent() + font.descent()) / 2.0;
        let mut x = at[0] - shift;
        for c in text.chars() {
            let id = font.glyph_id(c);
            let place = ab_glyph::point(x, baseline);
            if let Some(glyph) = font.outline_glyph(id.with_scale_and_position(style.size, place)) {
                let corner = glyph.px_bounds().min;
                glyph.draw(|dx, dy, cover| {
                    self.blend(corner.x + dx as f32, corner.y + dy as f32, cover);
                });
            }
            x += font.h_advance(id);
        }
    }

    /// Mixes ink into a pixel, if it lies in the picture.
    fn blend(&mut self, x: f32, y: f32, cover: f32) {
        let inside = x >= 0.0 && y >= 0.0 && x < self.width as f32 && y < self.height as f32;
        if inside {
            let pixel = &mut self.pixels[y as usize * self.width + x as usize];
            for (channel, ink) in pixel.iter_mut().zip(INK) {
                let (old, new) = (f32::from(*channel), f32::from(ink));
                *channel = (old + (new - old) * cover.min(1.0)).round() as u8;
            }
        }
    }

    /// Writes the picture as PNG.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        let file = File::create(path).with_context(cannot)?;
        let (width, height) = (self.width as u32, self.height as u32);
        let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer
            .write_image_data(self.pixels.as_flattened())
            .with_context(cannot)?;
        writer.finish().with_context(cannot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_are_cut_at_the_edge() {
        let mut canvas = Canvas::new(4, 3);
        canvas.fill([2, 1], [9, 9], [1, 2, 3]);
        canvas.fill([7, 0], [1, 1], [9; 3]);
        let filled = canvas
            .pixels
            .iter()
            .filter(|pixel| **pixel == [1, 2, 3])
            .count();
        assert_eq!((filled, canvas.pixels[0]), (4, [255; 3]));
    }

    #[test]
    fn text_leaves_ink_on_its_own_side_only() {
        let font = FontRef::try_from_slice(dejavu::sans::regular()).expect("the font is whole");
        let mut canvas = Canvas::new(40, 20);
        canvas.text(
            [20.0, 10.0],
            Align::Left,
            &Type {
                font: &font,
                size: 16.0,
            },
            "λ₁",
        );
        let ink = |columns: std::ops::Range<usize>| {
            let rows = canvas.pixels.chunks(40);
            rows.flat_map(|row| &row[columns.clone()])
                .any(|pixel| pixel[0] < 128)
        };
        assert!(ink(20..40) && !ink(0..19));
    }
}
