//! Charts as inline SVG. Colours and type come from the page's style sheet (classes `c0` to `c3`
//! for the peers), so that they follow light and dark.

use super::comparison::{CurvePoint, Unit};
use super::scale::{LogScale, halvings, percentile_ticks};
use super::statistics::Spread;
use std::fmt::Write;

/// Text made safe for HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A named curve.
pub struct Curve<'a> {
    /// The peer's name.
    pub name: &'a str,
    /// Its points, by growing percentile.
    pub points: Vec<CurvePoint>,
}

const WIDTH: f64 = 440.0;
const CURVE_HEIGHT: f64 = 290.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;
/// Room for the maximum behind the last finite percentile, as a part of the axis before it.
const MAXIMUM_ROOM: f64 = 0.1;
/// Percentiles with a dot that tells its numbers.
const DOTS: [f64; 3] = [50.0, 99.0, 99.9];

/// Where a curve chart puts things.
struct Plane {
    last: f64,
    end: f64,
    latency: LogScale,
}

impl Plane {
    fn new(curves: &[Curve<'_>]) -> Option<Self> {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let finite = points().map(|point| halvings(point.percentile)).filter(|at| at.is_finite());
        let last = finite.fold(1.0, f64::max);
        let end = last * (1.0 + MAXIMUM_ROOM);
        let min = points().map(|point| point.latency_us.min).reduce(f64::min)?;
        let max = points().map(|point| point.latency_us.max).reduce(f64::max)?;
        Some(Self { last, end, latency: LogScale::new(min, max) })
    }

    fn x(&self, halvings: f64) -> f64 {
        LEFT + halvings.min(self.end) / self.end * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, latency_us: f64) -> f64 {
        let height = CURVE_HEIGHT - TOP - BOTTOM;
        TOP + (1.0 - self.latency.position(latency_us)) * height
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let places = points.map(|(percentile, latency_us)| {
            format!("{:.1},{:.1}", self.x(halvings(percentile)), self.y(latency_us))
        });
        places.collect::<Vec<_>>().join(" ")
    }
}

/// Latency by percentile, one line per peer with the range over the rounds around it.
#[must_use]
pub fn curves(title: &str, curves: &[Curve<'_>]) -> String {
    let Some(plane) = Plane::new(curves) else { return String::new() };
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {CURVE_HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    );
    grid(&mut out, &plane);
    for (number, curve) in curves.iter().enumerate() {
        let low = curve.points.iter().map(|point| (point.percentile, point.latency_us.min));
        let high = curve.points.iter().rev().map(|point| (point.percentile, point.latency_us.max));
        let middle = curve.points.iter().map(|point| (point.percentile, point.latency_us.median));
        let _ = write!(
            out,
            "<polygon class=\"band c{number}\" points=\"{}\"/>\
             <polyline class=\"line c{number}\" points=\"{}\"/>",
            plane.path(low.chain(high)),
            plane.path(middle)
        );
    }
    for (number, curve) in curves.iter().enumerate() {
        for wanted in DOTS {
            dot(&mut out, &plane, number, curve, wanted);
        }
    }
    out.push_str("</svg>");
    out
}

fn grid(out: &mut String, plane: &Plane) {
    let bottom = CURVE_HEIGHT - BOTTOM;
    for tick in &plane.latency.ticks {
        let y = plane.y(*tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            tick_label(*tick)
        );
    }
    let maximum = (plane.end, "max");
    let mut last = f64::NEG_INFINITY;
    let mut ticks = percentile_ticks(plane.last);
    ticks.push(maximum);
    for (position, label) in ticks {
        let x = plane.x(position);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
        );
        if x - last > 26.0 {
            let y = bottom + 17.0;
            let _ =
                write!(out, "<text class=\"tick middle\" x=\"{x:.1}\" y=\"{y}\">{label}</text>");
            last = x;
        }
    }
    let _ = write!(
        out,
        "<text class=\"axis middle\" x=\"{:.1}\" y=\"{:.1}\">percentile of operations</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        CURVE_HEIGHT - 6.0
    );
}

/// Ticks are round, so their labels have no decimals to spare.
fn tick_label(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", (value * 1000.0).round() / 1000.0)
}

fn dot(out: &mut String, plane: &Plane, number: usize, curve: &Curve<'_>, wanted: f64) {
    let Some(point) = curve.points.iter().find(|point| point.percentile >= wanted) else { return };
    if !halvings(point.percentile).is_finite() {
        return;
    }
    let latency = &point.latency_us;
    let write_us = |value| Unit::Microseconds.format(value);
    let _ = write!(
        out,
        "<circle class=\"dot c{number}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\">\
         <title>{} p{:.2}: {} ({} – {})</title></circle>",
        plane.x(halvings(point.percentile)),
        plane.y(latency.median),
        escape(curve.name),
        point.percentile,
        write_us(latency.median),
        write_us(latency.min),
        write_us(latency.max)
    );
}

/// Bars of several peers for one label, for example one client count.
pub struct BarGroup {
    /// What the bars have in common; may be empty.
    pub label: String,
    /// One value per peer; `None` where it was not measured.
    pub values: Vec<Option<Spread>>,
}

const BAR_HEIGHT: f64 = 16.0;
const BAR_STEP: f64 = 21.0;
const BAR_LENGTH: f64 = 260.0;
const GROUP_LABEL_HEIGHT: f64 = 20.0;
const GROUP_GAP: f64 = 10.0;

/// Horizontal bars with the range over the rounds as a whisker and the median written beside.
/// Each group has a scale of its own: numbers of 1 and of 1,000 clients do not share one.
#[must_use]
pub fn bars(title: &str, unit: Unit, names: &[&str], groups: &[BarGroup]) -> String {
    let label_height =
        |group: &BarGroup| if group.label.is_empty() { 0.0 } else { GROUP_LABEL_HEIGHT };
    let height: f64 = groups
        .iter()
        .map(|group| label_height(group) + group.values.len() as f64 * BAR_STEP + GROUP_GAP)
        .sum();
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    );
    let mut y = 0.0;
    for group in groups {
        if !group.label.is_empty() {
            let _ = write!(
                out,
                "<text class=\"label\" x=\"0\" y=\"{:.1}\">{}</text>",
                y + 13.0,
                escape(&group.label)
            );
        }
        y += label_height(group);
        let longest = group.values.iter().flatten().map(|spread| spread.max).fold(0.0, f64::max);
        for (number, value) in group.values.iter().enumerate() {
            if let Some(spread) = value {
                let name = names.get(number).copied().unwrap_or_default();
                let bar = Bar { y, number, longest, unit, spread, base: group.values[0].as_ref() };
                bar.draw(name, &mut out);
            }
            y += BAR_STEP;
        }
        y += GROUP_GAP;
    }
    out.push_str("</svg>");
    out
}

struct Bar<'a> {
    y: f64,
    number: usize,
    longest: f64,
    unit: Unit,
    spread: &'a Spread,
    base: Option<&'a Spread>,
}

impl Bar<'_> {
    fn draw(&self, name: &str, out: &mut String) {
        let length =
            |value: f64| if self.longest > 0.0 { value / self.longest * BAR_LENGTH } else { 0.0 };
        let (low, middle, high) =
            (length(self.spread.min), length(self.spread.median), length(self.spread.max));
        let center = self.y + BAR_HEIGHT / 2.0;
        let _ = write!(
            out,
            "<g><title>{}: {} ({} – {})</title>\
             <rect class=\"bar c{}\" x=\"0\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
             <path class=\"whisker\" d=\"M{low:.1} {center:.1}H{high:.1}M{low:.1} {:.1}v6M{high:.1} {:.1}v6\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            escape(name),
            self.unit.format(self.spread.median),
            self.unit.format(self.spread.min),
            self.unit.format(self.spread.max),
            self.number,
            self.y,
            middle.max(1.0),
            center - 3.0,
            center - 3.0,
            high.max(middle) + 7.0,
            center + 4.5,
            self.unit.format(self.spread.median)
        );
        let ratio = self.base.filter(|_| self.number > 0).and_then(|base| self.spread.ratio(base));
        if let Some(ratio) = ratio {
            let _ = write!(
                out,
                "<text class=\"ratio end\" x=\"{WIDTH}\" y=\"{:.1}\">{}</text>",
                center + 4.5,
                ratio_text(ratio)
            );
        }
        out.push_str("</g>");
    }
}

/// A ratio with as many digits as it deserves.
#[must_use]
pub fn ratio_text(ratio: f64) -> String {
    if ratio >= 100.0 {
        format!("{ratio:.0}×")
    } else if ratio >= 10.0 {
        format!("{ratio:.1}×")
    } else {
        format!("{ratio:.2}×")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread { median, min: median * 0.9, max: median * 1.1 }
    }

    fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
        let marker = format!(" {attribute}=\"");
        svg.split(&marker)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn bars_are_as_long_as_their_values_and_stay_inside() {
        let groups = [
            BarGroup {
                label: "1 client".into(),
                values: vec![Some(spread(50.0)), Some(spread(100.0))],
            },
            BarGroup { label: String::new(), values: vec![Some(spread(0.0)), None] },
        ];
        let svg = bars("t <&>", Unit::Plain, &["old <", "new"], &groups);
        let widths = numbers(&svg, "width");
        assert_eq!(widths.len(), 3, "a missing value has no bar");
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
        assert_eq!(widths[2], 1.0, "a zero can still be seen");
        assert!(numbers(&svg, "x").into_iter().all(|x| (0.0..=WIDTH).contains(&x)), "{svg}");
        assert!(
            svg.contains("2.00×") && svg.contains("old &lt;") && svg.contains("t &lt;&amp;&gt;")
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn curves_rise_to_the_right_and_stay_inside() {
        let points = |factor: f64| {
            [0.0, 50.0, 75.0, 99.0, 99.9, 100.0]
                .iter()
                .enumerate()
                .map(|(number, percentile)| CurvePoint {
                    percentile: *percentile,
                    latency_us: spread(factor * 3f64.powi(number as i32)),
                })
                .collect()
        };
        let both = [
            Curve { name: "old", points: points(100.0) },
            Curve { name: "new", points: points(10.0) },
        ];
        let svg = curves("latency", &both);
        let lines: Vec<&str> = svg.split("<polyline").skip(1).collect();
        assert_eq!(lines.len(), 2);
        for line in lines {
            let points = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            let places: Vec<(f64, f64)> = points
                .split(' ')
                .map(|place| place.split_once(',').unwrap())
                .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                .collect();
            assert_eq!(places.len(), 6);
            assert!(places.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{places:?}");
            assert!(places.iter().all(|(x, y)| {
                (LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=CURVE_HEIGHT - BOTTOM).contains(y)
            }));
        }
        assert!(svg.contains("p99.90") && svg.contains(">max<") && !svg.contains("NaN"), "{svg}");
        assert_eq!(curves("nothing", &[Curve { name: "old", points: Vec::new() }]), "");
    }

    #[test]
    fn labels() {
        for (microseconds, expected) in
            [(0.5, "0.5 µs"), (200.0, "200 µs"), (5000.0, "5 ms"), (2e6, "2 s")]
        {
            assert_eq!(tick_label(microseconds), expected);
        }
        for (ratio, expected) in
            [(0.333, "0.33×"), (2.0, "2.00×"), (12.34, "12.3×"), (123.4, "123×")]
        {
            assert_eq!(ratio_text(ratio), expected);
        }
    }
}
