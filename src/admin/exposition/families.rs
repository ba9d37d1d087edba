//! Writing families of metrics, with the encoder of the Prometheus project.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::metrics::Distribution;

/// What is said of a family beside its type. The unit is the end of its name.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) unit: Option<Unit>,
    pub(super) help: &'static str,
}

/// The labels of a sample, and its value.
pub(super) type Sample<V> = (Vec<(&'static str, String)>, V);

/// Families, one after the other.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

/// A family without a unit.
pub(super) const fn about(name: &'static str, help: &'static str) -> About {
    About {
        name,
        unit: None,
        help,
    }
}

/// A family whose name goes on with this unit.
pub(super) const fn about_in(name: &'static str, unit: Unit, help: &'static str) -> About {
    About {
        name,
        unit: Some(unit),
        help,
    }
}

// === impl Families ===

impl Families<'_> {
    /// Numbers that only grow. Their names end in `_total`.
    pub(super) fn counter<V: EncodeCounterValue>(
        &mut self,
        about: &About,
        samples: impl IntoIterator<Item = Sample<V>>,
    ) -> fmt::Result {
        self.family(about, MetricType::Counter, samples, |mut encoder, value| {
            encoder.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
        })
    }

    /// Numbers that go up and down.
    pub(super) fn gauge<V: EncodeGaugeValue>(
        &mut self,
        about: &About,
        samples: impl IntoIterator<Item = Sample<V>>,
    ) -> fmt::Result {
        self.family(about, MetricType::Gauge, samples, |mut encoder, value| {
            encoder.encode_gauge(&value)
        })
    }

    pub(super) fn histogram(&mut self, about: &About, distribution: &Distribution) -> fmt::Result {
        let samples = [(Vec::new(), distribution)];
        self.family(about, MetricType::Histogram, samples, |mut encoder, it| {
            encoder.encode_histogram::<NoLabelSet>(it.sum, it.count(), &it.buckets, None)
        })
    }

    /// Texts, as labels.
    pub(super) fn info(&mut self, about: &About, label: (&'static str, &str)) -> fmt::Result {
        let samples = [(Vec::new(), ())];
        self.family(about, MetricType::Info, samples, |mut encoder, ()| {
            encoder.encode_info(&[label])
        })
    }

    fn family<V>(
        &mut self,
        about: &About,
        metric_type: MetricType,
        samples: impl IntoIterator<Item = Sample<V>>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let (name, unit) = (about.name, about.unit.as_ref());
        let mut family = self
            .0
            .encode_descriptor(name, about.help, unit, metric_type)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                // There is one sample then. With a set of none the encoder would write braces.
                return encode(family, value);
            }
            encode(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}
