std = "lua54"
max_line_length = 110
self = false -- a method may leave its object alone
exclude_files = {"build", "runs"}
files["tests/lua"] = {std = "lua54+busted"}
files["tests/system"] = {std = "lua54+busted"}
