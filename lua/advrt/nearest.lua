--- The known name nearest to a mistyped one, for messages.

--- Edit distance (insert, delete, replace, swap of neighbours) between two strings.
local function distance(a, b)
    local before, row = nil, {}
    for j = 0, #b do row[j] = j end
    for i = 1, #a do
        local last = row
        row = {[0] = i}
        for j = 1, #b do
            local same = a:byte(i) == b:byte(j)
            row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
            if before and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                row[j] = math.min(row[j], before[j - 2] + 1)
            end
        end
        before = last
    end
    return row[#b]
end

--- Number of letters that two strings begin with in common.
local function common_start(a, b)
    local n = 0
    while n < #a and a:byte(n + 1) == b:byte(n + 1) do n = n + 1 end
    return n
end

--- Returns the element of `names` (an array of strings) nearest to `name`; of several at the same
-- distance the first of those that begin most alike. nil where `names` is empty.
return function(name, names)
    local best, least, most
    for _, known in ipairs(names) do
        local d, start = distance(name:lower(), known:lower()), common_start(name, known)
        if not least or d < least or d == least and start > most then
            best, least, most = known, d, start
        end
    end
    return best
end
