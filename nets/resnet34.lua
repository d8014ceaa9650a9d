local resnet = require "advrt.nets.resnet"

return resnet.definition("resnet34", resnet.basic, {3, 4, 6, 3})
