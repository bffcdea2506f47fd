"""Every .onnx file of a folder passes ONNX's checker, with shapes inferred, and says what it is."""
import glob
import sys

import onnx

paths = sorted(glob.glob(sys.argv[1] + "/*.onnx"))
assert paths, "no .onnx files in " + sys.argv[1]
for path in paths:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8, path
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 15)], path
    constants = {tensor.name for tensor in model.graph.initializer}
    assert not constants & {value.name for value in model.graph.input}, path
    for value in list(model.graph.input) + list(model.graph.output):
        axes = value.type.tensor_type.shape.dim
        assert axes[0].dim_param == "N" and all(axis.dim_value > 0 for axis in axes[1:]), path
    # The declared shapes are the inferred ones: declared anew without axes, they come out the same.
    declared = [[axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
                for value in model.graph.output]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    found = [[axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
             for value in inferred.graph.output]
    assert found == declared, (path, found, declared)
    operators = {node.op_type for node in model.graph.node}
    foreign = operators & {"LayerNormalization", "Gelu", "Dropout"}
    assert not foreign, (path, foreign)
    assert ("GRU" in operators) == path.endswith("_op.onnx"), path
print(len(paths), "models pass onnx.checker", onnx.__version__)
