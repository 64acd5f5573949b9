//! `Layer` and `Network`: what is searched.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytesMethods;

use super::arrays::read_rows;
use crate::bits::Side;
use crate::budget;
use crate::cost::{self, Aggregate, Costs};
use crate::error::SearchError as CoreError;
use crate::network::{Layer, Network};
use crate::policy::Policy;

/// One quantized layer.
///
/// Candidates are distinct bit-widths from 1 to 32 in any order, and a single one pins the side.
/// `costs` has for each resource a row per weight candidate with a whole number per act candidate,
/// in the order of the candidates. What they count is the caller's affair.
///
/// Raises:
///     NetworkError: bad candidates, or costs that do not fit them.
#[pyclass(name = "Layer", module = "harness._search_rs", frozen)]
pub(super) struct PyLayer(Layer);

#[pymethods]
impl PyLayer {
    #[new]
    #[pyo3(signature = (name, *, weight_candidates, act_candidates, costs))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 reads sequences into vectors")]
    fn new(
        name: &str,
        weight_candidates: Vec<i128>,
        act_candidates: Vec<i128>,
        costs: Vec<Vec<Vec<i128>>>,
    ) -> PyResult<Self> {
        Ok(Self(Layer::new(name, &weight_candidates, &act_candidates, &costs)?))
    }

    /// Name of the layer.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    fn __repr__(&self) -> String {
        let [weight, act] = [Side::Weight, Side::Act].map(|side| self.0.candidates(side));
        format!("Layer('{}', weight_candidates={weight}, act_candidates={act})", self.0.name())
    }
}

/// The quantized layers of a network, in execution order.
///
/// `aggregates` says for each resource how the costs of layers come to that of a policy: "sum", or
/// "max" for the largest. `ties` are groups of sides that take the same bits, each a sequence of
/// (layer index, "weight" or "act").
///
/// Raises:
///     NetworkError: no layer, costs too large for 64 bits, or ties that cannot be.
#[pyclass(name = "Network", module = "harness._search_rs", frozen)]
pub(super) struct PyNetwork(pub(super) Arc<Network>);

#[pymethods]
impl PyNetwork {
    #[new]
    #[pyo3(signature = (layers, /, *, aggregates=vec!["sum".to_owned()], ties=vec![]))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 reads sequences into vectors")]
    fn new(
        layers: Vec<PyRef<'_, PyLayer>>,
        aggregates: Vec<String>,
        ties: Vec<Vec<(usize, String)>>,
    ) -> PyResult<Self> {
        let layers = layers.iter().map(|layer| layer.0.clone()).collect();
        let kinds = aggregates.iter().map(|name| aggregate(name)).collect::<Result<_, _>>()?;
        let sides = |tie: &Vec<(usize, String)>| {
            tie.iter().map(|(layer, name)| Ok((*layer, side(name)?))).collect()
        };
        let ties = ties.iter().map(sides).collect::<Result<Vec<_>, CoreError>>()?;
        Ok(Self(Arc::new(Network::new(kinds, layers, &ties)?)))
    }

    /// Number of layers.
    #[getter]
    fn num_layers(&self) -> usize {
        self.0.num_layers()
    }

    /// The least that any policy costs in each resource, taken alone.
    #[getter]
    fn smallest_costs(&self) -> Vec<u64> {
        let resources = 0..self.0.num_resources();
        resources.map(|resource| budget::smallest_cost(&self.0, resource)).collect()
    }

    /// Costs with every layer at its largest candidates, one per resource.
    #[getter]
    fn largest_costs(&self) -> Vec<u64> {
        self.as_list(&cost::of_policy(&self.0, &Policy::largest(&self.0)))
    }

    /// Return the costs of each policy, one per resource.
    ///
    /// `policies` are integers of shape (n, layers, 2), fastest as uint8. Ties are not checked.
    ///
    /// Raises:
    ///     PolicyError: another shape or type, or bits that are not candidates.
    #[pyo3(signature = (policies, /))]
    fn costs(&self, policies: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u64>>> {
        let rows = read_rows(policies, &self.0)?;
        let bytes = rows.as_bytes();
        let costs = policies.py().detach(|| cost::of_rows(&self.0, bytes))?;
        Ok(costs.chunks_exact(self.0.num_resources()).map(<[u64]>::to_vec).collect())
    }

    fn __repr__(&self) -> String {
        format!(
            "Network(num_layers={}, smallest_costs={:?}, largest_costs={:?})",
            self.num_layers(),
            self.smallest_costs(),
            self.largest_costs()
        )
    }
}

impl PyNetwork {
    fn as_list(&self, costs: &Costs) -> Vec<u64> {
        costs.first(self.0.num_resources()).to_vec()
    }
}

fn aggregate(name: &str) -> Result<Aggregate, CoreError> {
    match name {
        "sum" => Ok(Aggregate::Sum),
        "max" => Ok(Aggregate::Max),
        _ => Err(CoreError::UnknownWord { name: name.to_owned(), known: "sum, max" }),
    }
}

fn side(name: &str) -> Result<Side, CoreError> {
    match name {
        "weight" => Ok(Side::Weight),
        "act" => Ok(Side::Act),
        _ => Err(CoreError::UnknownWord { name: name.to_owned(), known: "weight, act" }),
    }
}
