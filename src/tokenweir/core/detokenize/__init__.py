"""Who may turn a token back into its value: grants, budgets, approvals, and the chain of records that proves it."""
