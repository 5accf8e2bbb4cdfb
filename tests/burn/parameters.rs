//! What tests do with the parameters of any module.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Tensor};

use crate::cases::{Source, values};

/// Sets the parameters to numbers that are the same in every run and on every device, with the spread of a
/// layer's initial ones.
pub(crate) fn fixed<M: Module>(module: M) -> M {
    module.map(&mut Fixed(Source::new(DType::F32, &Device::flex())))
}

struct Fixed(Source);

impl ModuleMapper for Fixed {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor) = (param.id, param.val());
        let shape = tensor.dims();
        let spread = (3.0 / shape[0] as f64).sqrt();
        let fixed = (self.0.constant(shape) * spread).into_data();
        let fixed = Tensor::from_data(fixed, &tensor.device());
        Param::initialized(id, fixed.set_require_grad(tensor.is_require_grad()))
    }
}

/// Turns every parameter into `f64`.
pub(crate) struct ToF64;

impl ModuleMapper for ToF64 {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let values = param.val().into_data().convert::<f64>();
        let device = Device::flex().autodiff();
        let tensor = Tensor::from_data(values, (&device, DType::F64));
        Param::initialized(param.id, tensor.require_grad())
    }
}

/// Gradients by the names of their parameters.
pub(crate) fn named_gradients(
    model: &impl Module,
    gradients: &mut Gradients,
) -> Vec<(String, Vec<f64>)> {
    struct Visitor<'a> {
        gradients: &'a mut Gradients,
        path: Vec<String>,
        found: Vec<(String, Vec<f64>)>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.gradients).expect("a gradient");
            self.found.push((self.path.join("."), values(gradient)));
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            if !container.starts_with("Enum:") {
                self.path.push(name.to_string());
            }
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            if !container.starts_with("Enum:") {
                self.path.pop();
            }
        }
    }
    let mut visitor = Visitor {
        gradients,
        path: vec![],
        found: vec![],
    };
    model.visit(&mut visitor);
    visitor.found
}
