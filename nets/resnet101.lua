local resnet = require "advrt.nets.resnet"

return resnet.definition("resnet101", resnet.bottleneck, {3, 4, 23, 3})
