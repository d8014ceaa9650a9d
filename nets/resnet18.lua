local resnet = require "advrt.nets.resnet"

return resnet.definition("resnet18", resnet.basic, {2, 2, 2, 2})
