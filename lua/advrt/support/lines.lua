--- Text for a terminal: lines of at most 100 letters, and columns.

local lines = {}

local WIDTH = 100 -- of a terminal's line

--- A text as lines, broken between words.
function lines.wrap(text)
    local list = {}
    for word in text:gmatch("[^ ]+") do
        local last = list[#list]
        if last and utf8.len(last) + 1 + utf8.len(word) <= WIDTH then
            list[#list] = last .. " " .. word
        else
            list[#list + 1] = word
        end
    end
    return list
end

--- Rows of texts as lines of columns, two blanks apart. A first text of more than `room` letters has a line
-- of its own.
function lines.columns(rows, room)
    local widths, list = {0}, {}
    for _, row in ipairs(rows) do
        for k, text in ipairs(row) do
            local width = utf8.len(text)
            if k > 1 or width <= room then widths[k] = math.max(widths[k] or 0, width) end
        end
    end
    for _, row in ipairs(rows) do
        local parts = {}
        for k, text in ipairs(row) do
            if k == 1 and utf8.len(text) > room then
                list[#list + 1], text = text, ""
            end
            parts[k] = text .. (" "):rep(widths[k] - utf8.len(text))
        end
        list[#list + 1] = table.concat(parts, "  "):gsub(" +$", "")
    end
    return list
end

return lines
