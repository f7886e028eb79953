"""The lists that tokens of names are picked from. Frozen: a change here would change tokens.

Given and family names are the most frequent of the United States census of 1990, by the Census Bureau, which is in the
public domain as a work of the federal government; streets are made of common words. No list has anything to do with
the values that get its names.
"""

from __future__ import annotations

from typing import Final

HOUSES: Final = 999
"""Largest house number of a street line."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIVEN: Final = _words("""
Aaron Adam Adrian Agnes Alan Albert Alex Alexander Alfred Alice Alicia Allan Allen Allison Alma Alvin Amanda Amber Amy
Ana Andre Andrea Andrew Angel Angela Anita Ann Anna Anne Annette Annie Anthony Antonio April Arlene Armando Arnold
Arthur Ashley Audrey Barbara Barry Beatrice Ben Benjamin Bernard Bernice Bertha Bessie Beth Betty Beverly Bill Billy
Bobby Bonnie Brad Bradley Brandon Brenda Brent Brett Brian Brittany Bruce Bryan Calvin Carl Carla Carlos Carmen Carol
Caroline Carolyn Carrie Catherine Cathy Cecil Chad Charlene Charles Charlie Charlotte Cheryl Chester Chris Christian
Christina Christine Christopher Cindy Clara Clarence Claude Claudia Clayton Clifford Clinton Clyde Cody Colleen Connie
Constance Corey Cory Courtney Craig Crystal Curtis Cynthia Dale Dan Dana Daniel Danielle Danny Darlene Darrell Darren
Darryl David Dawn Dean Debbie Deborah Debra Delores Denise Dennis Derek Derrick Diana Diane Dolores Don Donald Donna
Dora Doris Dorothy Douglas Duane Dustin Dwayne Dwight Earl Eddie Edgar Edith Edna Edward Edwin Eileen Elaine Eleanor
Elizabeth Ella Ellen Elmer Elsie Emily Emma Eric Erica Erik Erin Ernest Esther Ethel Eugene Eva Evelyn Felix Fernando
Florence Floyd Frances Francis Francisco Frank Franklin Fred Frederick Gabriel Gail Gary Gene George Georgia Gerald
Geraldine Gertrude Gilbert Gina Gladys Glen Glenda Glenn Gloria Gordon Grace Greg Gregory Guy Harold Harry Harvey
Hazel Heather Hector Heidi Helen Henry Herbert Herman Holly Howard Hugh Ida Irene Irma Jack Jackie Jacob Jacqueline
James Jamie Jane Janet Janice Jared Jason Javier Jay Jean Jeanette Jeanne Jeff Jeffery Jeffrey Jennifer Jeremy Jerome
Jerry Jesse Jessica Jessie Jesus Jill Jim Jimmy Jo Joan Joann Joanne Joe Joel John Johnny Jon Jonathan Jorge Jose
Joseph Josephine Joshua Joy Joyce Juan Juanita Judith Judy Julia Julie Julio June Justin Karen Karl Katherine Kathleen
Kathryn Kathy Katie Keith Kelly Kenneth Kevin Kim Kimberly Kristen Kristin Kurt Kyle Lance Larry Laura Lauren Laurie
Lawrence Lee Lena Leo Leon Leonard Leroy Leslie Lester Lewis Lillian Lillie Linda Lisa Lloyd Lois Lonnie Loretta Lori
Lorraine Louis Louise Lucille Lucy Luis Lydia Lynn Mabel Manuel Marc Marcia Marcus Margaret Maria Marian Marie Marilyn
Mario Marion Marjorie Mark Marlene Marsha Martha Martin Marvin Mary Mathew Matthew Mattie Maureen Maurice Max Maxine
Megan Melanie Melinda Melissa Melvin Michael Micheal Michele Michelle Miguel Mike Mildred Milton Minnie Mitchell
Monica Myrtle Nancy Natalie Nathan Nathaniel Neil Nellie Nelson Nicholas Nicole Norma Norman Oscar Pamela Patricia
Patrick Paul Paula Pauline Pearl Pedro Peggy Peter Philip Phillip Phyllis Rachel Rafael Ralph Ramon Randall Randy Raul
Ray Raymond Rebecca Regina Reginald Renee Rhonda Ricardo Richard Rick Ricky Rita Robert Roberta Roberto Robin Rodney
Roger Roland Ron Ronald Ronnie Rosa Rose Rosemary Roy Ruben Ruby Russell Ruth Ryan Sally Sam Samantha Samuel Sandra
Sara Sarah Scott Sean Shane Shannon Sharon Shawn Sheila Sherry Shirley Stacey Stacy Stanley Stella Stephanie Stephen
Steve Steven Sue Susan Suzanne Sylvia Tamara Tammy Tanya Tara Ted Teresa Terri Terry Thelma Theodore Theresa Thomas
Tiffany Tim Timothy Tina Todd Tom Tommy Tony Tonya Tracy Travis Troy Tyler Tyrone Valerie Vanessa Vera Vernon Veronica
Vicki Vickie Victor Victoria Vincent Viola Virginia Vivian Walter Wanda Warren Wayne Wendy Wesley William Willie Wilma
Yolanda Yvonne Zachary
""")
"""512 given names, half of women and half of men, but for those of both."""

FAMILY: Final = _words("""
Abbott Acevedo Acosta Adams Adkins Aguilar Aguirre Albert Alexander Alford Allen Allison Alston Alvarado Alvarez
Andersen Anderson Andrews Anthony Archer Armstrong Arnold Arroyo Ashley Atkins Atkinson Austin Avery Avila Ayala Ayers
Bailey Baird Baker Baldwin Ball Ballard Banks Barber Barker Barlow Barnes Barnett Barr Barrera Barrett Barron Barry
Bartlett Barton Bass Bates Battle Bauer Baxter Beach Bean Beard Beasley Beck Becker Bell Bender Benjamin Bennett
Benson Bentley Benton Berg Berger Bernard Berry Best Bird Bishop Black Blackburn Blackwell Blair Blake Blanchard
Blankenship Blevins Boggs Bolton Bond Bonner Booker Boone Booth Boucher Bowen Bowers Bowman Boyd Boyer Boyle Bradford
Bradley Bradshaw Brady Branch Bray Brennan Brewer Bridges Briggs Bright Britt Brock Brooks Brown Browning Bruce Bryan
Bryant Buchanan Buck Buckley Buckner Bullock Burch Burgess Burke Burks Burnett Burns Burris Burt Burton Bush Butler
Byers Byrd Cabrera Cain Calderon Caldwell Calhoun Callahan Camacho Cameron Campbell Campos Cannon Cantrell Cantu
Cardenas Carey Carlson Carney Carpenter Carr Carrillo Carroll Carson Carter Carver Case Casey Cash Castaneda Castillo
Castro Cervantes Chambers Chan Chandler Chaney Chang Chapman Charles Chase Chavez Chen Cherry Christensen Christian
Church Clark Clarke Clay Clayton Clements Clemons Cleveland Cline Cobb Cochran Coffey Cohen Cole Coleman Collier
Collins Colon Combs Compton Conley Conner Conrad Contreras Conway Cook Cooke Cooley Cooper Copeland Cortez Cote Cotton
Cowan Cox Craft Craig Crane Crawford Crosby Cross Cruz Cummings Cunningham Curry Curtis Dale Dalton Daniel Daniels
Daugherty Davenport David Davidson Davis Dawson Day Dean Decker Dejesus Delacruz Delaney Deleon Delgado Dennis Diaz
Dickerson Dickson Dillard Dillon Dixon Dodson Dominguez Donaldson Donovan Dorsey Dotson Dougherty Douglas Downs Doyle
Drake Dudley Duffy Duke Duncan Dunlap Dunn Duran Durham Dyer Eaton Edwards Elder Elliott Ellis Ellison Emerson England
English Erickson Espinoza Estes Estrada Evans Everett Ewing Farley Farmer Farrell Faulkner Ferguson Fernandez Ferrell
Fields Figueroa Finch Finley Fischer Fisher Fitzgerald Fitzpatrick Fleming Fletcher Flores Flowers Floyd Flynn Foley
Forbes Ford Foreman Foster Fowler Fox Francis Franco Frank Franklin Franks Frazier Frederick Freeman French Frost Fry
Frye Fuentes Fuller Fulton Gaines Gallagher Gallegos Galloway Gamble Garcia Gardner Garner Garrett Garrison Garza
Gates Gay Gentry George Gibbs Gibson Gilbert Giles Gill Gillespie Gilliam Gilmore Glass Glenn Glover Goff Golden Gomez
Gonzales Gonzalez Good Goodman Goodwin Gordon Gould Graham Grant Graves Gray Green Greene Greer Gregory Griffin
Griffith Grimes Gross Guerra Guerrero Guthrie Gutierrez Guy Guzman Haas Hahn Hale Haley Hall Hamilton Hammond Hampton
Hancock Haney Hanna Hansen Hanson Hardin Harding Hardy Harmon Harper Harrell Harrington Harris Harrison Hart Hartley
Hartman Harvey Hatfield Hawkins Hayden Hayes Haynes Hays Head Heath Hebert Henderson Hendricks Hendrix Henry Hensley
Henson Herman Hernandez Herrera Herring Hess Hester Hewitt Hickman Hicks Higgins Hill Hines Hinton Hobbs Hodge Hodges
Hoffman Hogan Holcomb Holden Holder Holland Holloway Holman Holmes Holt Hood Hooper Hoover Hopkins Hopper Horn Horne
Horton House Houston Howard Howe Howell Hubbard Huber Hudson Huff Huffman Hughes Hull Humphrey Hunt Hunter Hurley
Hurst Hutchinson Hyde Ingram Irwin Jackson Jacobs Jacobson James Jarvis Jefferson Jenkins Jennings Jensen Jimenez
Johns Johnson Johnston Jones Jordan Joseph Joyce Joyner Juarez Justice Kane Kaufman Keith Keller Kelley Kelly Kemp
Kendall Kendrick Kennedy Kent Kerr Key Kidd Kim King Kinney Kirby Kirk Kirkland Klein Kline Knapp Knight Knowles Knox
Koch Kramer Lamb Lambert Lancaster Landry Lane Lang Langley Lara Larsen Larson Lawrence Lawson Le Leach Leblanc Lee
Leon Leonard Lester Levine Levy Lewis Lindsay Lindsey Little Livingston Lloyd Logan Long Lopez Lott Love Lowe Lowery
Lucas Lucero Luna Lynch Lynn Lyons Macdonald Macias Mack Madden Maddox Maldonado Malone Mann Manning Marks Marquez
Marsh Marshall Martin Martinez Mason Massey Mathews Mathis Matthews Maxwell May Mayer Mayfield Maynard Mayo Mays
Mcbride Mccall Mccarthy Mccarty Mcclain Mcclure Mcconnell Mccormick Mccoy Mccray Mccullough Mcdaniel Mcdonald Mcdowell
Mcfadden Mcfarland Mcgee Mcgowan Mcguire Mcintosh Mcintyre Mckay Mckee Mckenzie Mckinney Mcknight Mclaughlin Mclean
Mcleod Mcmahon Mcmillan Mcneil Mcpherson Meadows Medina Mejia Melendez Melton Mendez Mendoza Mercado Mercer Merrill
Merritt Meyer Meyers Michael Middleton Miles Miller Mills Minor Miranda Mitchell Molina Monroe Montgomery Montoya
Moody Moon Mooney Moore Morales Moran Moreno Morgan Morin Morris Morrison Morrow Morse Morton Moses Mosley Moss
Mueller Mullen Mullins Munoz Murphy Murray Myers Nash Navarro Neal Nelson Newell Newman Newton Nguyen Nichols
Nicholson Nielsen Nieves Nixon Noble Noel Nolan Norman Norris Norton Nunez Obrien Ochoa Oconnell Oconnor Odell Odom
Odonnell Oliver Olsen Olson Oneal Oneil Oneill Orr Ortega Ortiz Osborn Osborne Owen Owens Pace Pacheco Padilla Page
Palmer Park Parker Parks Parrish Parsons Pate Patel Patrick Patterson Patton Paul Payne Pearson Peck Pena Pennington
Perez Perkins Perry Peters Petersen Peterson Petty Phelps Phillips Pickett Pierce Pittman Pitts Pollard Poole Pope
Porter Potter Potts Powell Powers Pratt Preston Price Prince Pruitt Puckett Pugh Quinn Ramirez Ramos Ramsey Randall
Randolph Rankin Rasmussen Ratliff Ray Raymond Reed Reese Reeves Reid Reilly Reyes Reynolds Rhodes Rice Rich Richard
Richards Richardson Richmond Riddle Riggs Riley Rios Rivas Rivera Rivers Roach Robbins Roberson Roberts Robertson
Robinson Robles Rocha Rodgers Rodriguez Rodriquez Rogers Rojas Rollins Roman Romero Rosa Rosales Rosario Rose Ross
Roth Rouse Rowe Rowland Roy Ruiz Rush Russell Russo Rutledge Ryan Salas Salazar Salinas Sampson Sanchez Sanders
Sandoval Sanford Santana Santiago Santos Sargent Saunders Savage Sawyer Schmidt Schneider Schroeder Schultz Schwartz
Scott Sears Sellers Serrano Sexton Shaffer Shannon Sharp Sharpe Shaw Shea Shelton Shepard Shepherd Sheppard Sherman
Shields Shirley Short Silva Simmons Simon Simpson Sims Singleton Skinner Slater Slaughter Sloan Small Smith Snider
Snow Snyder Solis Solomon Sosa Soto Sparks Spears Spence Spencer Stafford Stanley Stanton Stark Steele Stein Stephens
Stephenson Stevens Stevenson Stewart Stokes Stone Stout Strickland Strong Stuart Suarez Sullivan Summers Sutton
Swanson Sweeney Sweet Sykes Talley Tanner Tate Taylor Terrell Terry Thomas Thompson Thornton Tillman Todd Torres
Townsend Tran Travis Trevino Trujillo Tucker Turner Tyler Tyson Underwood Valdez Valencia Valentine Valenzuela Vance
Vang Vargas Vasquez Vaughan Vaughn Vazquez Vega Velasquez Velazquez Velez Villarreal Vincent Vinson Wade Wagner Walker
Wall Wallace Waller Walls Walsh Walter Walters Walton Ward Ware Warner Warren Washington Waters Watkins Watson Watts
Weaver Webb Weber Webster Weeks Weiss Welch Wells West Wheeler Whitaker White Whitehead Whitfield Whitley Whitney
Wiggins Wilcox Wilder Wiley Wilkerson Wilkins Wilkinson William Williams Williamson Willis Wilson Winters Wise Witt
Wolf Wolfe Wong Wood Woodard Woods Woodward Wooten Workman Wright Wyatt Wynn Yang Yates York Young Zamora Zimmerman
""")
"""1,024 family names."""

_STREET_WORDS: Final = _words("""
Acorn Alder Amber Apple Arbor Ash Aspen Beech Birch Bramble Briar Brook Canal Cedar Chapel Cherry Chestnut Clover
Copper Coral Cotton Cypress Dale Depot Elder Elm Fern Field Forest Garden Glen Grange Grove Harbor Hawthorn Hazel
Heather Hickory Highland Hill Hollow Holly Ivy Juniper Lake Larch Laurel Lilac Linden Locust Magnolia Maple Market
Meadow Mill Myrtle Oak Orchard Park Pine Poplar Quarry Ridge River
""")
_STREET_KINDS: Final = _words("Avenue Court Drive Lane Place Road Street Way")

STREETS: Final = tuple(f"{word} {kind}" for word in _STREET_WORDS for kind in _STREET_KINDS)
"""512 streets."""
