--- ONNX's operators as layers: operators.Conv(d, n, a) takes the drawing (advrt.nets.onnx.draw),
-- the node (advrt.nets.onnx.node) and its inputs, and returns the outputs. An input is a constant,
-- a value of the net or nil. To support another operator, add its function to a file of
-- operators/.

local operators = {}

for _, file in ipairs {"elementwise", "norms", "pools", "products", "resize", "shapes"} do
    for op, f in pairs(require("advrt.nets.onnx.operators." .. file)) do operators[op] = f end
end

return operators
