local resnet = require "advrt.nets.resnet"

return resnet.definition("resnet152", resnet.bottleneck, {3, 8, 36, 3})
