--- A headless Chromium, driven through its remote debugging pipe: pages are loaded, looked at and
-- typed to as a user would.
--
--     local b <close> = browser.start()
--     b:open("/tmp/report.html", {width = 400, height = 800, dark = true})
--     b:evaluate("document.title"); b:key("Tab"); b.errors; b:screenshot("/tmp/shot.png")

local json = require "dkjson"
local support = require "support"

local browser = {}

local Browser = {}
Browser.__index = Browser

-- What the keys are that the specs press.
local keys = {
    Tab = {9}, Enter = {13, "\r"}, [" "] = {32, " "}, ArrowRight = {39}, ArrowLeft = {37},
    ArrowDown = {40}, ArrowUp = {38}, End = {35}, Home = {36},
}

--- Starts a browser without a window; for a to-be-closed variable.
function browser.start()
    local dir = support.folder()
    local to, from = dir .. "/to", dir .. "/from"
    assert(os.execute(("mkfifo %s %s"):format(to, from)))
    -- Root, in a container, has no sandbox to give; the pages are the project's own.
    assert(os.execute(("exec chromium --headless=new --no-sandbox --disable-gpu --no-first-run "
        .. "--disable-dev-shm-usage --disable-background-networking --disable-extensions "
        .. "--user-data-dir=%s/profile --remote-debugging-pipe 3<%s 4>%s >%s/log 2>&1 &"):format(
        dir, to, from, dir)))
    local self = setmetatable({dir = dir, number = 0, errors = {}}, Browser)
    self.to = assert(io.open(to, "w"))
    self.from = assert(io.open(from, "r"))
    local target = self:call("Target.createTarget", {url = "about:blank"})
    self.session = self:call("Target.attachToTarget", {targetId = target.targetId, flatten = true})
        .sessionId
    for _, domain in ipairs {"Page", "Runtime", "Log", "Network"} do self:call(domain .. ".enable") end
    return self
end

function Browser:__close()
    pcall(self.send, self, "Browser.close")
    self.to:close()
    -- Reading on until it ends waits for the browser to be gone.
    self.from:read("a")
    self.from:close()
    support.remove(self.dir)
end

function Browser:send(method, parameters)
    self.number = self.number + 1
    self.to:write(json.encode {id = self.number, method = method, sessionId = self.session,
        params = parameters or setmetatable({}, {__jsontype = "object"})}, "\0")
    self.to:flush()
    return self.number
end

--- The next message; what tells of an error in the page, or of a request, is noted.
function Browser:receive()
    local parts = {}
    while true do
        local byte = assert(self.from:read(1), "the browser is gone")
        if byte == "\0" then break end
        parts[#parts + 1] = byte
    end
    local message = assert(json.decode(table.concat(parts)))
    local p = message.params
    if message.method == "Runtime.exceptionThrown" then
        table.insert(self.errors, json.encode(p.exceptionDetails))
    elseif message.method == "Log.entryAdded" and p.entry.level ~= "verbose" then
        table.insert(self.errors, p.entry.text)
    elseif message.method == "Runtime.consoleAPICalled" then
        table.insert(self.errors, json.encode(p.args))
    elseif message.method == "Network.requestWillBeSent" and p.request.url:find("^http") then
        table.insert(self.errors, "asks for " .. p.request.url)
    end
    return message
end

--- Sends a command and waits for its answer.
function Browser:call(method, parameters)
    local number = self:send(method, parameters)
    while true do
        local message = self:receive()
        if message.id == number then
            if message.error then error(method .. ": " .. message.error.message, 2) end
            return message.result
        end
    end
end

--- Opens a file in a page of that size (CSS pixels), with dark = true as one who prefers dark.
function Browser:open(path, options)
    self:call("Emulation.setDeviceMetricsOverride", {width = options.width, height = options.height,
        deviceScaleFactor = options.scale or 1, mobile = options.width < 600})
    self:call("Emulation.setEmulatedMedia", {features = {{name = "prefers-color-scheme",
        value = options.dark and "dark" or "light"}}})
    self:call("Page.navigate", {url = "file://" .. path:gsub("[^%w/._-]", function(c)
        return ("%%%02X"):format(c:byte())
    end)})
    repeat until self:receive().method == "Page.loadEventFired"
    -- What is drawn on demand is drawn when the page has a size.
    self:evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
end

--- The value of an expression in the page; promises are waited for.
function Browser:evaluate(expression)
    local r = self:call("Runtime.evaluate", {expression = expression, awaitPromise = true,
        returnByValue = true})
    if r.exceptionDetails then error(json.encode(r.exceptionDetails), 2) end
    return r.result.value
end

--- Presses and releases a key, as the keyboard does; modifiers: 8 is Shift.
function Browser:key(name, modifiers)
    local code, text = table.unpack(keys[name])
    for _, kind in ipairs {text and "keyDown" or "rawKeyDown", "keyUp"} do
        self:call("Input.dispatchKeyEvent", {type = kind, key = name, text = kind == "keyDown" and text
            or nil, windowsVirtualKeyCode = code, code = name == " " and "Space" or name,
            modifiers = modifiers or 0})
    end
end

local function base64(text)
    local out, bits, count = {}, 0, 0
    for c in text:gmatch("[%w+/]") do
        local v = ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):find(c, 1, true)
        bits, count = (bits << 6 | (v - 1)) & 0xFFFFFF, count + 6
        if count >= 8 then
            count = count - 8
            out[#out + 1] = string.char(bits >> count & 255)
        end
    end
    return table.concat(out)
end

--- Writes a PNG of the page, or of a part {x =, y =, width =, height =} of it in CSS pixels.
function Browser:screenshot(path, part)
    local clip
    if part then
        clip = {x = part.x, y = part.y, width = part.width, height = part.height, scale = 1}
    end
    local r = self:call("Page.captureScreenshot", {format = "png", clip = clip,
        captureBeyondViewport = true})
    support.write(path, base64(r.data))
end

return browser
